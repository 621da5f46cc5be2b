//! Why a try failed, and what the client is told if no other try is made.

use http::{HeaderValue, StatusCode};
use weft_filter_api::LocalReply;
use weft_telemetry::ResponseFlag;
use weft_upstream::UpstreamError;

use crate::names;
use crate::stream::Stream;
use crate::timer::Expired;

/// `%RESPONSE_CODE_DETAILS%` of a try whose upstream was silent for too long.
pub(crate) const PER_TRY_IDLE: &str = "upstream_per_try_idle_timeout";

/// Counts those tries for their cluster.
pub(crate) const TRY_IDLE_COUNTER: &str = "upstream_rq_per_try_idle_timeout";

/// Why a try gave no response.
#[derive(Debug)]
pub(super) enum Failure {
    /// The upstream, or the way to it.
    Upstream(UpstreamError),
    /// A time limit.
    Expired(Expired),
}

impl Failure {
    /// The response flag; Envoy has none for what the whole stream may take.
    fn flag(&self) -> Option<ResponseFlag> {
        match self {
            Self::Upstream(error) => Some(error.flag()),
            Self::Expired(Expired::Response | Expired::Try | Expired::TryIdle) => {
                Some(ResponseFlag::UpstreamRequestTimeout)
            }
            Self::Expired(Expired::Idle) => Some(ResponseFlag::StreamIdleTimeout),
            Self::Expired(Expired::Duration | Expired::Request) => None,
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`
    fn details(&self) -> &'static str {
        match self {
            Self::Upstream(error) => error.details(),
            Self::Expired(Expired::Response) => "response_timeout",
            Self::Expired(Expired::Try) => "upstream_per_try_timeout",
            Self::Expired(Expired::TryIdle) => PER_TRY_IDLE,
            Self::Expired(Expired::Idle) => "stream_idle_timeout",
            Self::Expired(Expired::Duration) => "max_duration_timeout",
            Self::Expired(Expired::Request) => "request_overall_timeout",
        }
    }

    /// Gives up: marks the stream and makes the reply.
    pub(super) fn into_reply(self, stream: &mut Stream) -> LocalReply {
        if matches!(self, Self::Upstream(UpstreamError::RequestBody))
            && let Some(progress) = &stream.progress
            && let Some(refusal) = progress.refusal.take()
        {
            return *refusal;
        }
        let malformed = stream.progress.as_ref().is_some_and(|progress| progress.malformed.get());
        if malformed && matches!(self, Self::Upstream(UpstreamError::RequestBody)) {
            stream.cx.flags.set(ResponseFlag::DownstreamProtocolError);
            return LocalReply::text(StatusCode::BAD_REQUEST, "Bad Request", "http1.codec_error");
        }
        if let Self::Expired(expired) = &self {
            expired.count(&stream.connection.manager.stats);
        }
        if let Some(flag) = self.flag() {
            stream.cx.flags.set(flag);
        }
        stream.abandoned = matches!(self, Self::Upstream(UpstreamError::RequestBody));
        let retried = stream.cx.attempts > 1;
        let (status, body) = match &self {
            Self::Upstream(UpstreamError::NoHealthyUpstream) => {
                (StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream".to_owned())
            }
            Self::Upstream(UpstreamError::DropOverload) => {
                (StatusCode::SERVICE_UNAVAILABLE, "drop overload".to_owned())
            }
            Self::Upstream(error) => {
                stream.cx.transport_failure = error.transport_failure().map(str::to_owned);
                (status_of(error), reset_text(error, retried))
            }
            Self::Expired(Expired::Response | Expired::Try | Expired::TryIdle) => {
                (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout".to_owned())
            }
            Self::Expired(Expired::Idle) => (late(stream), "stream timeout".to_owned()),
            Self::Expired(Expired::Duration) => {
                (late(stream), "downstream duration timeout".to_owned())
            }
            Self::Expired(Expired::Request) => {
                (StatusCode::REQUEST_TIMEOUT, "request timeout".to_owned())
            }
        };
        let mut reply = LocalReply::text(status, body, self.details());
        if let Self::Upstream(UpstreamError::Overflow(_) | UpstreamError::DropOverload) = self {
            reply.headers.insert(names::ENVOY_OVERLOADED, HeaderValue::from_static("true"));
        }
        reply
    }
}

fn status_of(error: &UpstreamError) -> StatusCode {
    match error {
        UpstreamError::Protocol { .. } => StatusCode::BAD_GATEWAY,
        UpstreamError::NoHealthyUpstream
        | UpstreamError::DropOverload
        | UpstreamError::SecretsNotReady
        | UpstreamError::Overflow(_)
        | UpstreamError::ConnectFailed { .. }
        | UpstreamError::ConnectTimeout { .. }
        | UpstreamError::Tls { .. }
        | UpstreamError::Reset { .. }
        | UpstreamError::ConnectionClosed { .. }
        | UpstreamError::RequestBody => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Envoy's words for an exchange that ended before the response's head.
fn reset_text(error: &UpstreamError, retried: bool) -> String {
    let mut text = format!(
        "upstream connect error or disconnect/reset before headers. {}reset reason: {}",
        if retried { "retried and the latest " } else { "" },
        error.reset_reason()
    );
    if let Some(failure) = error.transport_failure() {
        text.push_str(", transport failure reason: ");
        text.push_str(failure);
    }
    text
}

/// Whose fault lateness is: the upstream's, once the request is there.
fn late(stream: &Stream) -> StatusCode {
    if stream.request_ended() { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::REQUEST_TIMEOUT }
}
