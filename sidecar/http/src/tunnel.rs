//! Streams of bytes within the bodies of messages: how HTTP/2 carries tunnels.

use std::cell::RefCell;
use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_filter_api::BodyError;

/// How much may be written before it is read, bytes.
const ROOM: usize = 64 << 10;

#[derive(Debug, Default)]
struct Pipe {
    waiting: BytesMut,
    /// The writer has ended it well.
    ended: bool,
    /// The writer has gone.
    broken: bool,
    /// Nobody reads on.
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

/// A body, and the end where it is written. Dropped before it is shut down, the writer breaks the
/// body off.
pub(crate) fn pipe() -> (Writer, Feed) {
    let pipe = Rc::<RefCell<Pipe>>::default();
    (Writer(Rc::clone(&pipe)), Feed(pipe))
}

/// Where a body is written.
#[derive(Debug)]
pub(crate) struct Writer(Rc<RefCell<Pipe>>);

/// A body that is written elsewhere.
#[derive(Debug)]
pub(crate) struct Feed(Rc<RefCell<Pipe>>);

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.unread {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = ROOM.saturating_sub(pipe.waiting.len());
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(bytes.len());
        pipe.waiting.extend_from_slice(&bytes[..count]);
        pipe.wake_reader();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.borrow_mut();
        pipe.ended = true;
        pipe.wake_reader();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.broken = true;
        pipe.wake_reader();
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut pipe = self.0.borrow_mut();
        if !pipe.waiting.is_empty() {
            let data = pipe.waiting.split().freeze();
            pipe.wake_writer();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if pipe.ended {
            return Poll::Ready(None);
        }
        if pipe.broken {
            return Poll::Ready(Some(Err(BodyError::Broken)));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let pipe = self.0.borrow();
        pipe.ended && pipe.waiting.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.unread = true;
        pipe.wake_writer();
    }
}

/// The bodies of both directions of an exchange, as one stream of bytes.
#[derive(Debug)]
pub(crate) struct Exchanged<B> {
    body: B,
    /// What was received and not read yet.
    left: Bytes,
    over: bool,
    writer: Writer,
}

impl<B> Exchanged<B> {
    /// Reads one body and writes the other.
    pub(crate) fn new(body: B, writer: Writer) -> Self {
        Self { body, left: Bytes::new(), over: false, writer }
    }
}

impl<B> AsyncRead for Exchanged<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.left.is_empty() && !this.over {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => this.left = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error.to_string()))),
                None => this.over = true,
            }
        }
        let count = this.left.len().min(out.remaining());
        out.put_slice(&this.left[..count]);
        this.left.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<B: Unpin> AsyncWrite for Exchanged<B> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writer).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_full_pipe_makes_the_writer_wait() {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut writer, mut feed) = pipe();
        let much = vec![7; ROOM + 1];
        let written = Pin::new(&mut writer).poll_write(&mut cx, &much);
        assert!(matches!(written, Poll::Ready(Ok(ROOM))));
        assert!(Pin::new(&mut writer).poll_write(&mut cx, b"x").is_pending());
        let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut feed).poll_frame(&mut cx) else {
            panic!("there is something to read");
        };
        assert_eq!(frame.into_data().unwrap().len(), ROOM);
        assert!(Pin::new(&mut feed).poll_frame(&mut cx).is_pending());
        assert!(Pin::new(&mut writer).poll_shutdown(&mut cx).is_ready());
        assert!(feed.is_end_stream());
    }

    #[test]
    fn either_end_notices_that_the_other_is_gone() {
        let mut cx = Context::from_waker(Waker::noop());
        let (writer, mut feed) = pipe();
        drop(writer);
        assert!(matches!(Pin::new(&mut feed).poll_frame(&mut cx), Poll::Ready(Some(Err(_)))));
        let (mut writer, feed) = pipe();
        drop(feed);
        let written = Pin::new(&mut writer).poll_write(&mut cx, b"x");
        assert!(matches!(written, Poll::Ready(Err(_))));
    }
}
