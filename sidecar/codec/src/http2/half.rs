//! The two directions of a stream in the hands of those who use them.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};

use super::head::write_response;
use super::state::State;
use super::stream::{Stream, register};
use crate::{CodecError, Reason};

/// The direction that is sent. Dropped before its end with nobody receiving either, it resets the
/// stream.
pub(super) struct SendHalf {
    state: Rc<RefCell<State>>,
    key: u32,
}

impl SendHalf {
    /// Takes over one of the stream's holders.
    pub(super) fn new(state: &Rc<RefCell<State>>, key: u32) -> Self {
        Self { state: Rc::clone(state), key }
    }

    /// Sends a response's head, and with it the end, if it is the last of the message.
    pub(super) fn send_response<B>(&self, head: &Response<B>, last: bool) {
        let mut state = self.state.borrow_mut();
        let stream = state.stream(self.key);
        if !stream.live {
            return;
        }
        let id = stream.id;
        state.write_headers(id, last, |encoder, out| write_response(head, encoder, out));
        if last {
            state.end_sending(self.key);
        }
    }

    pub(super) fn poll_send(
        &self,
        data: &mut Bytes,
        last: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<(), CodecError>> {
        self.state.borrow_mut().poll_send(self.key, data, last, cx)
    }

    pub(super) fn send_trailers(&self, trailers: &HeaderMap) -> Result<(), CodecError> {
        self.state.borrow_mut().send_trailers(self.key, trailers)
    }

    pub(super) fn reset(&self, reason: Reason) {
        self.state.borrow_mut().reset(self.key, reason, CodecError::Closed);
    }

    pub(super) fn poll_reset(&self, cx: &Context<'_>) -> Poll<CodecError> {
        self.state.borrow_mut().poll_reset(self.key, cx)
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.state.borrow_mut().release(self.key);
    }
}

impl fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendHalf").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The direction that is received. Dropped before its end, it resets the stream, at a server as
/// soon as the response has gone out.
pub(super) struct RecvHalf {
    state: Rc<RefCell<State>>,
    key: u32,
}

/// What is next on a stream.
pub(super) enum Next {
    Data(Bytes),
    Trailers(Box<HeaderMap>),
    End,
}

impl RecvHalf {
    /// Takes over one of the stream's holders.
    pub(super) fn new(state: &Rc<RefCell<State>>, key: u32) -> Self {
        Self { state: Rc::clone(state), key }
    }

    fn stream(&self) -> RefMut<'_, Stream> {
        RefMut::map(self.state.borrow_mut(), |state| state.stream(self.key))
    }

    /// The head of a response, and whether a body follows.
    pub(super) fn poll_head(
        &self,
        cx: &Context<'_>,
    ) -> Poll<Result<(Response<()>, bool), CodecError>> {
        let mut stream = self.stream();
        if let Some(head) = stream.head.take() {
            let follows = !is_at_end(&stream);
            return Poll::Ready(Ok((head, follows)));
        }
        if let Some(error) = &stream.error {
            return Poll::Ready(Err(error.clone()));
        }
        register(&mut stream.receiver, cx);
        Poll::Pending
    }

    /// What comes next, and whether that is the last.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Result<(Next, bool), CodecError>> {
        let mut state = self.state.borrow_mut();
        let stream = state.stream(self.key);
        if let Some(data) = stream.data.pop_front() {
            let last = is_at_end(stream);
            state.release_data(self.key, data.len());
            return Poll::Ready(Ok((Next::Data(data), last)));
        }
        if let Some(trailers) = stream.trailers.take() {
            return Poll::Ready(Ok((Next::Trailers(trailers), true)));
        }
        if stream.recv_ended {
            return Poll::Ready(Ok((Next::End, true)));
        }
        match &stream.error {
            Some(error) => Poll::Ready(Err(error.clone())),
            None => {
                register(&mut stream.receiver, cx);
                Poll::Pending
            }
        }
    }

    /// What was announced of the body, bytes.
    pub(super) fn expected(&self) -> Option<u64> {
        let stream = self.stream();
        let here: usize = stream.data.iter().map(Bytes::len).sum();
        stream.expected.map(|left| left + here as u64)
    }
}

/// Whether all was read of what came, and nothing more comes.
fn is_at_end(stream: &Stream) -> bool {
    stream.recv_ended && stream.data.is_empty() && stream.trailers.is_none()
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        state.discard(self.key);
        state.release(self.key);
    }
}

impl fmt::Debug for RecvHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvHalf").field("key", &self.key).finish_non_exhaustive()
    }
}
