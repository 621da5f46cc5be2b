//! Bodies that arrive on a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};

use super::client::Upload;
use crate::CodecError;

/// The body of a message on an HTTP/2 stream. The peer may send more as soon as a frame is taken.
/// Dropped before its end, it resets the stream.
#[derive(Debug)]
pub struct Http2Body {
    stream: RecvStream,
    /// `content-length`, while nothing has been read.
    announced: Option<u64>,
    data_ended: bool,
    ended: bool,
    /// What is still to be sent on the stream, for a client.
    upload: Option<Upload>,
    is_response: bool,
}

impl Http2Body {
    /// The body of a request; `None`: it has none.
    pub(super) fn of_request(stream: RecvStream, headers: &HeaderMap) -> Option<Self> {
        Self::new(stream, headers, None, false)
    }

    /// The body of a response, with what is left of the request's body; `None`: it has none.
    pub(super) fn of_response(
        stream: RecvStream,
        headers: &HeaderMap,
        upload: impl FnOnce() -> Option<Upload>,
    ) -> Option<Self> {
        let mut body = Self::new(stream, headers, None, true)?;
        body.upload = upload();
        Some(body)
    }

    fn new(
        stream: RecvStream,
        headers: &HeaderMap,
        upload: Option<Upload>,
        is_response: bool,
    ) -> Option<Self> {
        if stream.is_end_stream() {
            return None;
        }
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok());
        Some(Self { stream, announced, data_ended: false, ended: false, upload, is_response })
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails only for more than was received.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.ended = self.stream.is_end_stream();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.ended = true;
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
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
        let part = ready!(this.poll_part(cx));
        this.announced = None;
        match part {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            // A server that has answered in full may ask not to be sent the rest (RFC 9113, 8.1).
            Some(Err(error))
                if this.is_response
                    && error.is_remote()
                    && error.reason() == Some(Reason::NO_ERROR) =>
            {
                this.ended = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
