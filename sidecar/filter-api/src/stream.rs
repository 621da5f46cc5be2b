//! The context of one HTTP stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::Extensions;
use tokio::time::Instant;
use weft_telemetry::{ResponseFlag, ResponseFlags};

use crate::ConnectionFacts;

/// The protocol of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Protocol {
    /// As `%PROTOCOL%` prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// What is known about one HTTP stream, and what filters tell each other about it.
#[derive(Debug)]
pub struct StreamCx {
    /// The connection that carries the stream.
    pub connection: Arc<ConnectionFacts>,
    /// The client's address as the connection manager determined it (`X-Forwarded-For` considered).
    pub remote: SocketAddr,
    /// The downstream protocol.
    pub protocol: Protocol,
    /// When the request's head was complete, for durations.
    pub started: Instant,
    /// When the request's head was complete, for `%START_TIME%`.
    pub started_at: SystemTime,
    /// The name of the chosen route.
    pub route_name: Option<Arc<str>>,
    /// The name of the chosen cluster.
    pub cluster: Option<Arc<str>>,
    /// The upstream host of the last try.
    pub upstream_host: Option<SocketAddr>,
    /// The local address of the last upstream connection.
    pub upstream_local: Option<SocketAddr>,
    /// Tries made, the first included.
    pub attempts: u32,
    /// Why the response is what it is.
    pub flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`, e.g. `via_upstream` or `route_not_found`.
    pub details: &'static str,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub transport_failure: Option<String>,
    /// Whether a filter asked for the route to be chosen anew.
    pub route_changed: bool,
    /// What filters keep for this stream and tell each other; allocated at the first use.
    pub state: Extensions,
}

impl StreamCx {
    /// A context for a stream that begins now.
    #[must_use]
    pub fn new(connection: Arc<ConnectionFacts>, protocol: Protocol) -> Self {
        Self {
            remote: connection.remote,
            connection,
            protocol,
            started: Instant::now(),
            started_at: SystemTime::now(),
            route_name: None,
            cluster: None,
            upstream_host: None,
            upstream_local: None,
            attempts: 0,
            flags: ResponseFlags::NONE,
            details: "",
            transport_failure: None,
            route_changed: false,
            state: Extensions::new(),
        }
    }

    /// Sets a response flag and, if none is set yet, the details.
    pub fn fail(&mut self, flag: ResponseFlag, details: &'static str) {
        self.flags.set(flag);
        if self.details.is_empty() {
            self.details = details;
        }
    }
}
