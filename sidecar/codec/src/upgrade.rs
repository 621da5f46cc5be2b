//! Connections that leave HTTP (RFC 9110, 7.8): from then on they are streams of bytes.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::CodecError;

/// The promise of a stream: kept when the response 101 has been sent or received.
#[derive(Debug)]
pub struct Upgrading(Promise);

#[derive(Debug)]
enum Promise {
    Sent(oneshot::Receiver<Upgraded>),
    Kept(Option<Upgraded>),
}

impl Upgrading {
    /// A stream that somebody will send.
    pub(crate) fn promised(receiver: oneshot::Receiver<Upgraded>) -> Self {
        Self(Promise::Sent(receiver))
    }
}

impl From<Upgraded> for Upgrading {
    fn from(stream: Upgraded) -> Self {
        Self(Promise::Kept(Some(stream)))
    }
}

impl Future for Upgrading {
    type Output = Result<Upgraded, CodecError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Promise::Sent(receiver) => {
                Pin::new(receiver).poll(cx).map(|stream| stream.map_err(|_| CodecError::Closed))
            }
            Promise::Kept(stream) => Poll::Ready(stream.take().ok_or(CodecError::Closed)),
        }
    }
}

/// A connection after its last HTTP message, with what was already read of the bytes that follow.
pub struct Upgraded(Pin<Box<dyn Duplex>>);

trait Duplex: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> Duplex for T {}

impl Upgraded {
    /// A stream that begins with the first byte after HTTP.
    pub fn new(stream: impl AsyncRead + AsyncWrite + 'static) -> Self {
        Self(Box::pin(stream))
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}
