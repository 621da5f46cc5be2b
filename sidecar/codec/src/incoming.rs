//! Bodies on their way in.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Extensions;
use http_body::{Body, Frame, SizeHint};
use hyper::upgrade::OnUpgrade;

use crate::http2::Http2Body;
use crate::{CodecError, Upgrading};

/// The body of a message that arrives.
#[derive(Debug, Default)]
pub enum Incoming {
    /// There is none.
    #[default]
    Empty,
    /// From a stream of HTTP/2.
    Http2(Http2Body),
    /// As hyper reads it.
    Hyper {
        /// What is left of it.
        body: hyper::body::Incoming,
        /// What follows the message, if its connection changes the protocol.
        upgrading: Option<Upgrading>,
    },
}

impl Incoming {
    /// The body of a message that hyper has read the head of.
    #[must_use]
    pub fn hyper(body: hyper::body::Incoming, extensions: &mut Extensions) -> Self {
        let upgrading = extensions.remove::<OnUpgrade>().map(Upgrading::from);
        Self::Hyper { body, upgrading }
    }

    /// The stream that the connection becomes after a request with `Upgrade` and its response 101;
    /// given once.
    pub fn upgrade(&mut self) -> Option<Upgrading> {
        match self {
            Self::Empty | Self::Http2(_) => None,
            Self::Hyper { upgrading, .. } => upgrading.take(),
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
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
            Self::Hyper { body, .. } => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(CodecError::from))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http2(body) => body.is_end_stream(),
            Self::Hyper { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http2(body) => body.size_hint(),
            Self::Hyper { body, .. } => body.size_hint(),
        }
    }
}
