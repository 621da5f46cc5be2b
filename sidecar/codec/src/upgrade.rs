//! Connections that leave HTTP (RFC 9110, 7.8): from then on they are streams of bytes.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::CodecError;

/// The promise of a stream: kept when the response 101 has been sent or received.
#[derive(Debug)]
pub struct Upgrading(OnUpgrade);

impl From<OnUpgrade> for Upgrading {
    fn from(promise: OnUpgrade) -> Self {
        Self(promise)
    }
}

impl Future for Upgrading {
    type Output = Result<Upgraded, CodecError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let stream = Pin::new(&mut self.0).poll(cx);
        stream.map(|stream| Ok(Upgraded::new(TokioIo::new(stream?))))
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
