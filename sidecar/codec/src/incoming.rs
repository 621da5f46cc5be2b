//! Bodies on their way in.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http1::RequestBody;
use crate::http2::Http2Body;
use crate::{CodecError, Upgrading};

/// The body of a message that arrives.
#[derive(Debug, Default)]
pub enum Incoming {
    /// There is none.
    #[default]
    Empty,
    /// Over HTTP/1.
    Http1(RequestBody),
    /// From a stream of HTTP/2.
    Http2(Http2Body),
}

impl Incoming {
    /// The stream that the connection becomes after a request with `Upgrade` and its response 101;
    /// given once.
    pub fn upgrade(&mut self) -> Option<Upgrading> {
        match self {
            Self::Empty | Self::Http2(_) => None,
            Self::Http1(body) => body.upgrade(),
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = CodecError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
