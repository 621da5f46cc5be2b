//! Bodies: what is sent upstream, and what comes back.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use weft_codec::{CodecError, Incoming, Upgrading};

use crate::exchange::Exchange;
use crate::pool::Lease;

/// The body of a request on its way upstream.
#[derive(Default)]
pub enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// All of it at once.
    Full(Bytes),
    /// As it arrives from downstream.
    Incoming(Incoming),
    /// Anything else.
    Boxed(Pin<Box<dyn Body<Data = Bytes, Error = CodecError>>>),
    /// What a tunnel carries, for CONNECT and upgrades. Sent over HTTP/2; over HTTP/1 it is dropped,
    /// since there the connection itself becomes the tunnel ([`UpstreamBody::upgrade`]).
    Tunnel(Pin<Box<dyn Body<Data = Bytes, Error = CodecError>>>),
}

impl RequestBody {
    /// A second body with the same content, where that costs nothing.
    #[must_use]
    pub fn replay(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            Self::Incoming(_) | Self::Boxed(_) | Self::Tunnel(_) => None,
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Incoming(_) => f.write_str("Incoming"),
            Self::Boxed(_) => f.write_str("Boxed"),
            Self::Tunnel(_) => f.write_str("Tunnel"),
        }
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
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Incoming(body) => Pin::new(body).poll_frame(cx),
            Self::Boxed(body) | Self::Tunnel(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Boxed(body) | Self::Tunnel(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(body) => body.size_hint(),
            Self::Boxed(body) | Self::Tunnel(body) => body.size_hint(),
        }
    }
}

/// Where the body of a response comes from.
#[derive(Debug)]
pub(crate) enum Inner {
    /// From the connection that the lease holds.
    Http1,
    /// From a stream of a shared connection.
    Shared(Incoming),
}

/// The body of a response. When it has ended, its connection goes back to the pool and the
/// request no longer counts as active; dropped earlier, it ends the exchange: an HTTP/1
/// connection is closed, an HTTP/2 stream reset.
#[derive(Debug)]
pub struct UpstreamBody {
    inner: Inner,
    held: Option<(Lease, Exchange)>,
}

impl UpstreamBody {
    /// `switching`: the connection leaves HTTP with this response.
    pub(crate) fn new(inner: Inner, switching: bool, lease: Lease, exchange: Exchange) -> Self {
        let mut body = Self { inner, held: Some((lease, exchange)) };
        if !switching && body.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The stream that the connection becomes after a response 101, or a good one to CONNECT; given
    /// once.
    pub fn upgrade(&mut self) -> Option<Upgrading> {
        match &mut self.inner {
            Inner::Http1 => self.held.as_mut()?.0.upgrade().map(Upgrading::from),
            Inner::Shared(body) => body.upgrade(),
        }
    }

    fn finish(&mut self) {
        if let Some((lease, exchange)) = self.held.take() {
            drop(exchange);
            lease.give_back();
        }
    }

    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        match &mut self.inner {
            Inner::Http1 => match &mut self.held {
                Some((lease, _)) => lease.poll_frame(cx),
                None => Poll::Ready(None),
            },
            Inner::Shared(body) => Pin::new(body).poll_frame(cx),
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = CodecError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        let this = self.get_mut();
        let frame = ready!(this.poll_inner(cx));
        match &frame {
            None => this.finish(),
            Some(Ok(frame)) if frame.is_trailers() || this.is_end_stream() => this.finish(),
            Some(Ok(_)) => {}
            Some(Err(_)) => this.held = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Http1 => self.held.as_ref().is_none_or(|(lease, _)| lease.is_end_stream()),
            Inner::Shared(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.inner, &self.held) {
            (Inner::Http1, Some((lease, _))) => lease.size_hint(),
            (Inner::Http1, None) => SizeHint::with_exact(0),
            (Inner::Shared(body), _) => body.size_hint(),
        }
    }
}
