//! Bodies that arrive on a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::client::Upload;
use super::half::{Next, RecvHalf};
use crate::{CodecError, Reason};

/// The body of a message on an HTTP/2 stream. The peer may send more as soon as a frame is taken.
/// Dropped before its end, it resets the stream.
#[derive(Debug)]
pub struct Http2Body {
    stream: RecvHalf,
    /// What is still to come by `content-length`, while nothing has been read.
    announced: Option<u64>,
    ended: bool,
    is_response: bool,
    /// What is still to be sent on the stream, for a client.
    _upload: Option<Upload>,
}

impl Http2Body {
    pub(super) fn of_request(stream: RecvHalf) -> Self {
        let announced = stream.expected();
        Self { stream, announced, ended: false, is_response: false, _upload: None }
    }

    /// The body of a response, with what is left of the request's body.
    pub(super) fn of_response(stream: RecvHalf, upload: Option<Upload>) -> Self {
        let announced = stream.expected();
        Self { stream, announced, ended: false, is_response: true, _upload: upload }
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = CodecError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        this.announced = None;
        let (next, last) = match ready!(this.stream.poll_next(cx)) {
            Ok(next) => next,
            // A server that has answered in full may ask not to be sent the rest (RFC 9113, 8.1).
            Err(CodecError::Reset(Reason::NO_ERROR)) if this.is_response => (Next::End, true),
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        this.ended = last;
        Poll::Ready(match next {
            Next::Data(data) => Some(Ok(Frame::data(data))),
            Next::Trailers(trailers) => Some(Ok(Frame::trailers(*trailers))),
            Next::End => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
