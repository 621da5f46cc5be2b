//! A connection's bytes: reads, has frames looked at, writes what came of it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame;
use super::receive::{PING_ALIVE, PING_CLOSING};
use super::state::{Closing, HIGH_WATER, State};
use crate::{CodecError, Reason};

/// How much is read at a time, bytes.
const READ: usize = 64 << 10;
/// How much is thrown away before a connection that broke the protocol is closed, bytes.
const MAX_LINGER: usize = 256 << 10;
/// What a connection keeps of its buffer when all is written, bytes.
const KEPT: usize = 2 << 10;

thread_local! {
    /// Where a worker's connections read to, one after the other; what they keep is their own.
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A connection in the hands of its future; the streams have the state.
#[derive(Debug)]
pub(super) struct Link<T> {
    io: T,
    pub(super) state: Rc<RefCell<State>>,
    /// A frame of which more is to come.
    partial: Vec<u8>,
    /// Bytes of the preface that are still to come.
    preface: usize,
    /// What the connection ends with, when the rest is written.
    ending: Option<Result<(), CodecError>>,
    /// How much of what the peer still sends is thrown away once it was told what it did wrong:
    /// closed with unread bytes, the connection would be reset and that be lost.
    lingers: Option<usize>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Link<T> {
    pub(super) fn new(io: T, state: State) -> Self {
        let preface = if state.is_server { frame::PREFACE.len() } else { 0 };
        let state = Rc::new(RefCell::new(state));
        Self { io, state, partial: Vec::new(), preface, ending: None, lingers: None }
    }

    /// Sends a ping that is answered by setting `pong`.
    pub(super) fn ping(&self) {
        let mut state = self.state.borrow_mut();
        frame::ping(&mut state.out, 0, PING_ALIVE);
        state.wake();
    }

    /// Announces the end.
    pub(super) fn go_away_gracefully(&self) {
        let mut state = self.state.borrow_mut();
        if state.closing == Closing::No {
            state.closing = Closing::Announced;
            frame::go_away(&mut state.out, frame::MAX_WINDOW as u32, Reason::NO_ERROR);
            frame::ping(&mut state.out, 0, PING_CLOSING);
        }
    }

    /// Goes on until nothing can be read or written; ready when the connection has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        loop {
            let flushed = match self.poll_flush(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(self.over(error.into())),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            if let Some(ending) = self.ending.clone() {
                if !flushed {
                    return Poll::Pending;
                }
                // A peer that is gone already needs no farewell.
                let _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
                ready!(self.poll_linger(cx));
                return Poll::Ready(ending);
            }
            if flushed && self.is_done() {
                continue;
            }
            if self.is_full() || self.poll_read(cx).is_pending() {
                let mut state = self.state.borrow_mut();
                if flushed && state.out.len() > state.written {
                    continue;
                }
                state.task = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
    }

    /// Whether it only waits for the peer to close.
    pub(super) fn lingers(&self) -> bool {
        self.lingers.is_some()
    }

    /// Ready when the peer has closed, or has sent more than is thrown away.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(left) = self.lingers {
            let mut scratch = [0; 1 << 10];
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf));
            let count = buf.filled().len();
            let more = read.is_ok() && count > 0;
            self.lingers = left.checked_sub(count).filter(|_| more);
        }
        Poll::Ready(())
    }

    /// Whether nothing is left to do: the ending is decided then.
    fn is_done(&mut self) -> bool {
        let mut state = self.state.borrow_mut();
        let done = state.by_id.is_empty() && (state.closing == Closing::Final || state.abandoned);
        if done {
            if state.abandoned && state.closing != Closing::Final {
                frame::go_away(&mut state.out, 0, Reason::NO_ERROR);
            }
            self.ending = Some(Ok(()));
        }
        done
    }

    /// Whether so much waits to be written that nothing more should come.
    fn is_full(&self) -> bool {
        let state = self.state.borrow();
        state.out.len() - state.written >= 2 * HIGH_WATER
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        // While it runs, nobody has to wake it.
        state.task = None;
        while state.written < state.out.len() {
            let written =
                ready!(Pin::new(&mut self.io).poll_write(cx, &state.out[state.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            state.written += written;
        }
        state.out.clear();
        state.written = 0;
        if state.by_id.is_empty() && state.out.capacity() > KEPT {
            state.out = Vec::new();
        }
        state.unblock();
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Reads once; ready when something came of it.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; READ].into_boxed_slice());
        let begun = self.partial.len();
        scratch[..begun].copy_from_slice(&self.partial);
        let mut buf = ReadBuf::new(&mut scratch[begun..]);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut buf);
        let length = buf.filled().len();
        let result = match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => {
                self.ending = Some(self.over(error.into()));
                Poll::Ready(())
            }
            Poll::Ready(Ok(())) if length == 0 => {
                self.ended();
                Poll::Ready(())
            }
            Poll::Ready(Ok(())) => {
                self.arrived(&scratch[..begun + length]);
                Poll::Ready(())
            }
        };
        SCRATCH.set(Some(scratch));
        result
    }

    fn arrived(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.preface > 0 {
            let length = self.preface.min(rest.len());
            let at = frame::PREFACE.len() - self.preface;
            if rest[..length] != frame::PREFACE[at..at + length] {
                self.fault(Reason::PROTOCOL_ERROR);
                return;
            }
            self.preface -= length;
            rest = &rest[length..];
        }
        let taken = self.state.borrow_mut().receive(rest);
        match taken {
            Ok(taken) => {
                self.partial.clear();
                self.partial.extend_from_slice(&rest[taken..]);
                if self.partial.is_empty() && self.partial.capacity() > KEPT {
                    self.partial = Vec::new();
                }
            }
            Err(reason) => self.fault(reason),
        }
    }

    /// The peer broke the protocol: it is told so, then the connection ends.
    fn fault(&mut self, reason: Reason) {
        let error = CodecError::Malformed(format!("{reason:?}").into());
        let mut state = self.state.borrow_mut();
        let last = state.last_id;
        frame::go_away(&mut state.out, last, reason);
        state.fail(&error);
        self.lingers = state.is_server.then_some(MAX_LINGER);
        self.ending = Some(Err(error));
    }

    /// The peer sends nothing more.
    fn ended(&mut self) {
        let idle = self.state.borrow().by_id.is_empty() && self.partial.is_empty();
        let over = self.over(CodecError::Closed);
        self.ending = Some(if idle { Ok(()) } else { over });
    }

    /// The connection is gone: so are its streams.
    pub(super) fn over(&mut self, error: CodecError) -> Result<(), CodecError> {
        let mut state = self.state.borrow_mut();
        state.fail(&error);
        state.written = state.out.len();
        Err(error)
    }
}
