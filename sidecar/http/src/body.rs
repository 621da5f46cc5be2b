//! Bodies of responses on their way to the client.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use weft_codec::CodecError;
use weft_filter_api::{BodyError, BoxedBody};
use weft_telemetry::ResponseFlag;
use weft_upstream::UpstreamBody;

use crate::forward::{PER_TRY_IDLE, TRY_IDLE_COUNTER};
use crate::stream::{End, Stream};
use crate::timer::Expired;

/// Why a response is cut off: the client sees a reset or a closed connection.
#[derive(Debug, Error)]
pub(crate) enum CutOff {
    /// The upstream's body ended with an error.
    #[error("the upstream's response broke off: {0}")]
    Upstream(#[source] CodecError),
    /// A filter's body ended with an error.
    #[error("{0}")]
    Filtered(#[source] BodyError),
    /// A time limit was passed.
    #[error("the response took too long")]
    TimedOut,
}

/// The body of a response, which carries its stream to the end.
pub(crate) struct ReplyBody {
    content: Content,
    stream: Option<Box<Stream>>,
}

enum Content {
    Empty,
    Full(Bytes),
    Upstream(UpstreamBody),
    Filtered(BoxedBody),
}

impl Content {
    /// The next frame of a body that arrives.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self {
            Self::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(CutOff::Upstream),
            Self::Filtered(body) => body.as_mut().poll_frame(cx).map_err(CutOff::Filtered),
            Self::Empty | Self::Full(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Upstream(body) => body.is_end_stream(),
            Self::Filtered(body) => body.is_end_stream(),
        }
    }
}

impl ReplyBody {
    /// A body that is known whole.
    pub(crate) fn full(bytes: Bytes, stream: Box<Stream>) -> Self {
        let content = if bytes.is_empty() { Content::Empty } else { Content::Full(bytes) };
        Self { content, stream: Some(stream) }
    }

    /// A body that comes from the upstream.
    pub(crate) fn upstream(body: UpstreamBody, stream: Box<Stream>) -> Self {
        Self { content: Content::Upstream(body), stream: Some(stream) }
    }

    /// A body that passes through filters.
    pub(crate) fn filtered(body: BoxedBody, stream: Box<Stream>) -> Self {
        Self { content: Content::Filtered(body), stream: Some(stream) }
    }

    /// No body, and the stream lives on elsewhere: an upgraded connection.
    pub(crate) fn detached() -> Self {
        Self { content: Content::Empty, stream: None }
    }

    /// What a tunnel carries; the stream lives on elsewhere.
    pub(crate) fn tunnel(body: BoxedBody) -> Self {
        Self { content: Content::Filtered(body), stream: None }
    }

    fn finish(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            stream.end = End::Whole;
        }
    }

    fn cut_off(&mut self, flag: Option<ResponseFlag>, details: &'static str) {
        if let Some(mut stream) = self.stream.take() {
            match flag {
                Some(flag) => stream.cx.flags.set(flag),
                None => stream.end = End::Limit,
            }
            stream.cx.details = details.into();
        }
    }

    fn passed(&mut self, frame: &Frame<Bytes>) {
        let Some(stream) = &mut self.stream else { return };
        stream.timer.touch();
        if let Some(data) = frame.data_ref() {
            stream.sent_data(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            stream.log_trailers(trailers);
        }
    }

    fn poll_arriving(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self.content.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                // Nothing comes after trailers; a codec may drop the body when it has them.
                let last = frame.is_trailers() || self.content.is_end_stream();
                self.passed(&frame);
                if last {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let (flag, details) = broken_off(&error);
                self.cut_off(Some(flag), details);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending => {
                let Some(stream) = &mut self.stream else { return Poll::Pending };
                match stream.poll_timer(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(expired) => {
                        expired.count(&stream.connection.manager.stats);
                        if expired == Expired::TryIdle {
                            stream.count_for_cluster(TRY_IDLE_COUNTER);
                        }
                        let (flag, details) = timed_out(expired);
                        self.cut_off(flag, details);
                        Poll::Ready(Some(Err(CutOff::TimedOut)))
                    }
                }
            }
        }
    }
}

/// What a body that ended with an error is called.
fn broken_off(error: &CutOff) -> (ResponseFlag, &'static str) {
    match error {
        CutOff::Filtered(BodyError::Refused(_)) => {
            (ResponseFlag::LocalReset, "filter_ended_the_response")
        }
        CutOff::Upstream(CodecError::Malformed(_)) => (
            ResponseFlag::UpstreamProtocolError,
            "upstream_reset_after_response_started{protocol_error}",
        ),
        CutOff::Upstream(_) | CutOff::Filtered(BodyError::Broken) | CutOff::TimedOut => (
            ResponseFlag::UpstreamConnectionTermination,
            "upstream_reset_after_response_started{connection_termination}",
        ),
    }
}

/// What a limit that was passed in the middle of a response is called.
fn timed_out(expired: Expired) -> (Option<ResponseFlag>, &'static str) {
    match expired {
        Expired::Response | Expired::Try => {
            (Some(ResponseFlag::UpstreamRequestTimeout), "response_timeout")
        }
        Expired::TryIdle => (Some(ResponseFlag::UpstreamRequestTimeout), PER_TRY_IDLE),
        Expired::Idle => (Some(ResponseFlag::StreamIdleTimeout), "stream_idle_timeout"),
        Expired::Duration | Expired::Request => (None, "max_duration_timeout"),
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let this = self.get_mut();
        if let Content::Upstream(_) | Content::Filtered(_) = this.content {
            return this.poll_arriving(cx);
        }
        let Content::Full(bytes) = std::mem::replace(&mut this.content, Content::Empty) else {
            this.finish();
            return Poll::Ready(None);
        };
        let frame = Frame::data(bytes);
        this.passed(&frame);
        this.finish();
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Upstream(body) => body.size_hint(),
            Content::Filtered(body) => body.size_hint(),
        }
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        // A codec does not poll a body that has nothing to say.
        if self.is_end_stream() {
            self.finish();
        }
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyBody").finish_non_exhaustive()
    }
}
