//! Why an upstream could not be used, and what may be done about it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use thiserror::Error;
use weft_codec::{CodecError, Reason};
use weft_model::EndpointAddress;
use weft_telemetry::ResponseFlag;
use weft_tls::TlsError;

use crate::RequestBody;

/// Which limit of a cluster's circuit breakers was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `max_connections`
    Connections,
    /// `max_pending_requests`
    Pending,
    /// `max_requests`
    Requests,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connections => "max_connections",
            Self::Pending => "max_pending_requests",
            Self::Requests => "max_requests",
        })
    }
}

/// Why an exchange with an upstream failed before the response's head was there.
#[derive(Clone, Debug, Error)]
pub enum UpstreamError {
    /// The cluster has no endpoint that may be used.
    #[error("no healthy upstream")]
    NoHealthyUpstream,
    /// The control plane has a part of the requests refused (`drop_overloads`).
    #[error("dropped for overload")]
    DropOverload,
    /// The cluster's TLS socket waits for its secrets.
    #[error("TLS secrets of the cluster are not there yet")]
    SecretsNotReady,
    /// A circuit breaker is open.
    #[error("the circuit breaker {0} is open")]
    Overflow(Limit),
    /// No connection could be made.
    #[error("connecting to {address} failed: {reason}", address = Shown(.address))]
    ConnectFailed {
        /// The endpoint.
        address: EndpointAddress,
        /// What the system said.
        reason: Arc<str>,
    },
    /// The connection was not made, TLS included, within `connect_timeout`.
    #[error("connecting to {address} took longer than {limit:?}", address = Shown(.address))]
    ConnectTimeout {
        /// The endpoint.
        address: EndpointAddress,
        /// `connect_timeout`
        limit: Duration,
    },
    /// The TLS handshake failed.
    #[error("TLS: {reason}")]
    Tls {
        /// As `%UPSTREAM_TRANSPORT_FAILURE_REASON%` prints it.
        reason: Arc<str>,
    },
    /// The upstream reset the stream.
    #[error("the upstream reset the stream: {reason}")]
    Reset {
        /// The HTTP/2 error's name.
        reason: Arc<str>,
        /// The upstream did not look at the request: sending it again is sound.
        refused: bool,
    },
    /// The connection ended before the response's head.
    #[error("the upstream closed the connection before it answered")]
    ConnectionClosed {
        /// The connection had served requests before: it may have died of age.
        reused: bool,
    },
    /// The upstream broke the protocol.
    #[error("the upstream broke the protocol: {reason}")]
    Protocol {
        /// What was wrong.
        reason: Arc<str>,
    },
    /// The request's body ended with an error: the downstream is gone.
    #[error("the request's body could not be read")]
    RequestBody,
}

impl UpstreamError {
    /// The response flag.
    #[must_use]
    pub fn flag(&self) -> ResponseFlag {
        match self {
            Self::NoHealthyUpstream => ResponseFlag::NoHealthyUpstream,
            Self::DropOverload => ResponseFlag::DropOverLoad,
            Self::Overflow(_) => ResponseFlag::UpstreamOverflow,
            Self::SecretsNotReady
            | Self::ConnectFailed { .. }
            | Self::ConnectTimeout { .. }
            | Self::Tls { .. } => ResponseFlag::UpstreamConnectionFailure,
            Self::Reset { .. } => ResponseFlag::UpstreamRemoteReset,
            Self::ConnectionClosed { .. } => ResponseFlag::UpstreamConnectionTermination,
            Self::Protocol { .. } => ResponseFlag::UpstreamProtocolError,
            Self::RequestBody => ResponseFlag::DownstreamConnectionTermination,
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`
    #[must_use]
    pub fn details(&self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "no_healthy_upstream",
            Self::DropOverload => "drop_overload",
            Self::Overflow(_) => "upstream_reset_before_response_started{overflow}",
            Self::SecretsNotReady | Self::ConnectFailed { .. } | Self::Tls { .. } => {
                "upstream_reset_before_response_started{remote_connection_failure}"
            }
            Self::ConnectTimeout { .. } => {
                "upstream_reset_before_response_started{connection_timeout}"
            }
            Self::Reset { refused: true, .. } => {
                "upstream_reset_before_response_started{remote_refused_stream_reset}"
            }
            Self::Reset { .. } => "upstream_reset_before_response_started{remote_reset}",
            Self::ConnectionClosed { .. } => {
                "upstream_reset_before_response_started{connection_termination}"
            }
            Self::Protocol { .. } => "upstream_reset_before_response_started{protocol_error}",
            Self::RequestBody => "downstream_remote_disconnect",
        }
    }

    /// The words that Envoy puts behind `reset reason:` in the body of its reply.
    #[must_use]
    pub fn reset_reason(&self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "no healthy upstream",
            Self::DropOverload => "drop overload",
            Self::Overflow(_) => "overflow",
            Self::SecretsNotReady | Self::ConnectFailed { .. } | Self::Tls { .. } => {
                "remote connection failure"
            }
            Self::ConnectTimeout { .. } => "connection timeout",
            Self::Reset { refused: true, .. } => "remote refused stream reset",
            Self::Reset { .. } => "remote reset",
            Self::ConnectionClosed { .. } => "connection termination",
            Self::Protocol { .. } => "protocol error",
            Self::RequestBody => "local reset",
        }
    }

    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`
    #[must_use]
    pub fn transport_failure(&self) -> Option<&str> {
        match self {
            Self::Tls { reason } | Self::ConnectFailed { reason, .. } => Some(reason),
            Self::SecretsNotReady => Some("TLS_error:|secrets_not_ready:TLS_error_end"),
            _ => None,
        }
    }

    /// No connection could be had, so the request was never sent (`retry_on: connect-failure`).
    #[must_use]
    pub fn is_connect_failure(&self) -> bool {
        matches!(
            self,
            Self::SecretsNotReady
                | Self::ConnectFailed { .. }
                | Self::ConnectTimeout { .. }
                | Self::Tls { .. }
        )
    }

    /// The upstream refused the stream unseen (`retry_on: refused-stream`).
    #[must_use]
    pub fn is_refused_stream(&self) -> bool {
        matches!(self, Self::Reset { refused: true, .. })
    }

    /// The exchange ended without a response (`retry_on: reset`).
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.is_connect_failure()
            || matches!(
                self,
                Self::Reset { .. } | Self::ConnectionClosed { .. } | Self::Protocol { .. }
            )
    }

    /// The upstream can't have acted on the request: sending it once more is sound for every method.
    #[must_use]
    pub fn request_unseen(&self) -> bool {
        self.is_connect_failure()
            || self.is_refused_stream()
            || matches!(self, Self::Overflow(_) | Self::NoHealthyUpstream)
    }
}

/// An error that gives the request back when nothing of it was sent.
#[derive(Debug)]
pub struct SendError {
    /// What went wrong.
    pub error: UpstreamError,
    /// The request, when it was not sent.
    pub request: Option<Box<Request<RequestBody>>>,
}

impl SendError {
    pub(crate) fn unsent(error: UpstreamError, request: Request<RequestBody>) -> Self {
        Self { error, request: Some(Box::new(request)) }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for SendError {}

/// What the codec says about an exchange, as one of ours.
pub(crate) fn exchange_failed(error: &CodecError, reused: bool) -> UpstreamError {
    match error {
        CodecError::Reset(reason) | CodecError::GoAway(reason) => {
            let unseen = matches!(error, CodecError::GoAway(Reason::NO_ERROR));
            let refused = *reason == Reason::REFUSED_STREAM || unseen;
            UpstreamError::Reset { reason: format!("{reason:?}").into(), refused }
        }
        CodecError::Io(error) => {
            let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match alert {
                Some(alert) => tls_failed(&TlsError::from(alert.clone())),
                None => UpstreamError::ConnectionClosed { reused },
            }
        }
        CodecError::Malformed(reason) => UpstreamError::Protocol { reason: Arc::clone(reason) },
        CodecError::Body => UpstreamError::RequestBody,
        CodecError::Closed => UpstreamError::ConnectionClosed { reused },
    }
}

/// A failed handshake.
pub(crate) fn tls_failed(error: &TlsError) -> UpstreamError {
    UpstreamError::Tls { reason: error.transport_failure_reason().into() }
}

struct Shown<'a>(&'a EndpointAddress);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            EndpointAddress::Socket(address) => address.fmt(f),
            EndpointAddress::Pipe(path) => path.display().fmt(f),
        }
    }
}
