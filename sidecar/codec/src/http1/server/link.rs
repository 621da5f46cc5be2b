//! What a connection shares with the body of the request that it serves: the transport, and what
//! was read of it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::buffers::{ReadBuffer, poll_leftover};
use super::super::chunks::Decoded;
use super::super::decoder::Decoder;
use crate::{CodecError, Transport, Upgrading};

/// What a client that waits for leave to send its body is told (RFC 9110, 10.1.1).
pub(super) const CONTINUE: &[u8; 25] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// How much of the next requests is read while one is served, bytes.
const READ_AHEAD: usize = 4 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Link<T> {
    pub(super) io: T,
    pub(super) buffer: ReadBuffer,
    /// What is left of the current request's body.
    pub(super) decoder: Decoder,
    /// Counts requests: a body that outlives its own reads nothing of the next one.
    generation: u32,
    /// How much of [`CONTINUE`] has to be sent before the body is read.
    pub(super) continue_left: u8,
    /// Whether the client has to be told to go on at all.
    owes_continue: bool,
    /// Whether the body could not be read to its end.
    pub(super) failed: bool,
    /// Whether that was because the client has ended the connection.
    pub(super) cut_off: bool,
    /// Whether nobody will read the body.
    pub(super) unwanted: bool,
    /// The connection's task, if it waits for the end of the body.
    waiting: Option<Waker>,
}

impl<T: Transport> Link<T> {
    pub(super) fn new(io: T, seen: &[u8]) -> Self {
        let mut buffer = ReadBuffer::default();
        buffer.prepend(seen);
        Self {
            io,
            buffer,
            decoder: Decoder::Done,
            generation: 0,
            continue_left: 0,
            owes_continue: false,
            failed: false,
            cut_off: false,
            unwanted: false,
            waiting: None,
        }
    }

    /// A request begins, whose body is read with this decoder; gives its number.
    pub(super) fn begin(&mut self, decoder: Decoder, owes_continue: bool) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.unwanted = decoder.is_done();
        self.owes_continue = owes_continue && !decoder.is_done();
        self.continue_left = 0;
        self.decoder = decoder;
        if self.decoder.is_done() {
            self.buffer.release();
        }
        self.generation
    }

    /// Takes what is there of a body that nobody wants.
    pub(super) fn discard(&mut self) {
        while !self.decoder.is_done() {
            match self.decoder.decode(self.buffer.bytes()) {
                Ok(Decoded::Data(_) | Decoded::Trailers(_) | Decoded::End) => {}
                Ok(Decoded::More) => return,
                Err(_) => {
                    self.failed = true;
                    return;
                }
            }
        }
    }

    /// Ready when the client has left; reads ahead a little. Once the request is whole nothing
    /// else tells.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.decoder.is_done() {
            if !self.failed {
                self.waiting = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        while self.buffer.len() < READ_AHEAD {
            match ready!(self.buffer.poll_fill(&mut self.io, cx, 0)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.owes_continue) {
            self.continue_left = CONTINUE.len() as u8;
        }
        while self.continue_left > 0 {
            let rest = &CONTINUE[CONTINUE.len() - usize::from(self.continue_left)..];
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.continue_left -= u8::try_from(count).unwrap_or(u8::MAX).min(self.continue_left);
            if self.continue_left == 0 {
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let frame = ready!(self.poll_part(cx));
        if matches!(frame, Some(Err(_))) {
            self.failed = true;
        }
        if self.decoder.is_done() || self.failed {
            self.buffer.release();
            if let Some(waiting) = self.waiting.take()
                && !waiting.will_wake(cx.waker())
            {
                waiting.wake();
            }
        }
        Poll::Ready(frame)
    }

    fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        ready!(self.poll_continue(cx))?;
        loop {
            match self.decoder.decode(self.buffer.bytes()) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Decoded::Trailers(trailers)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(wrong) => return Poll::Ready(Some(Err(CodecError::Malformed(wrong.into())))),
            }
            let expected = self.decoder.expected();
            let count = ready!(self.buffer.poll_fill(&mut self.io, cx, expected))?;
            if count == 0 && !self.decoder.end() {
                self.cut_off = true;
                return Poll::Ready(Some(Err(CodecError::Closed)));
            }
        }
    }
}

/// Where a request's body comes from, whatever the transport is.
trait Source {
    fn poll_frame(
        &self,
        generation: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>>;

    /// Whether all of it was read.
    fn is_done(&self, generation: u32) -> bool;

    /// The length that is left, where it is known.
    fn exact(&self) -> Option<u64>;

    /// Nobody reads on.
    fn leave(&self, generation: u32);
}

impl<T: Transport> Source for RefCell<Link<T>> {
    fn poll_frame(
        &self,
        generation: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        let mut link = self.borrow_mut();
        if link.generation == generation { link.poll_body(cx) } else { Poll::Ready(None) }
    }

    fn is_done(&self, generation: u32) -> bool {
        let link = self.borrow();
        link.generation != generation || link.decoder.is_done()
    }

    fn exact(&self) -> Option<u64> {
        self.borrow().decoder.exact()
    }

    fn leave(&self, generation: u32) {
        // Dropped in the middle of the link's own work there is nothing to note.
        if let Ok(mut link) = self.try_borrow_mut()
            && link.generation == generation
        {
            link.unwanted = true;
        }
    }
}

/// The body of a request over HTTP/1; the connection that it comes over may change its protocol.
#[derive(Default)]
pub struct RequestBody {
    source: Option<(Rc<dyn Source>, u32)>,
    upgrading: Option<Upgrading>,
}

impl RequestBody {
    pub(super) fn new<T: Transport + 'static>(
        link: &Rc<RefCell<Link<T>>>,
        generation: u32,
        upgrading: Option<Upgrading>,
    ) -> Self {
        let source = (!link.borrow().decoder.is_done())
            .then(|| (Rc::clone(link) as Rc<dyn Source>, generation));
        Self { source, upgrading }
    }

    /// The stream that the connection becomes after a response 101; given once.
    pub(crate) fn upgrade(&mut self) -> Option<Upgrading> {
        self.upgrading.take()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = CodecError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        let this = self.get_mut();
        let Some((source, generation)) = &this.source else { return Poll::Ready(None) };
        let frame = ready!(source.poll_frame(*generation, cx));
        if !matches!(frame, Some(Ok(_))) || source.is_done(*generation) {
            this.source = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|(source, generation)| source.is_done(*generation))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            None => SizeHint::with_exact(0),
            Some((source, _)) => source.exact().map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some((source, generation)) = &self.source {
            source.leave(*generation);
        }
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody").field("ended", &self.source.is_none()).finish_non_exhaustive()
    }
}

/// A connection after HTTP.
pub(super) struct Tunnel<T>(pub(super) Rc<RefCell<Link<T>>>);

impl<T: Transport> AsyncRead for Tunnel<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut link = self.0.borrow_mut();
        match poll_leftover(&mut link.buffer, out) {
            Some(read) => read,
            None => Pin::new(&mut link.io).poll_read(cx, out),
        }
    }
}

impl<T: Transport> AsyncWrite for Tunnel<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_shutdown(cx)
    }
}
