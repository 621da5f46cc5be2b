//! The context of one HTTP stream.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::HOST;
use http::request::Parts as RequestHead;
use http::{Extensions, HeaderName};
use tokio::time::Instant;
use weft_telemetry::{Annotations, LogRecord, ResponseFlag, ResponseFlags, clock};

use crate::{ConnectionFacts, StreamIo};

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

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
    pub details: Cow<'static, str>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub transport_failure: Option<String>,
    /// Whether a filter asked for the route to be chosen anew.
    pub route_changed: bool,
    /// What filters keep for this stream; allocated at the first use.
    pub state: Extensions,
    /// Dynamic metadata and filter state; allocated at the first use.
    pub annotations: Option<Box<Annotations>>,
    /// Bodies and callouts; made for the first filter that uses them. See [`Self::io`].
    pub opened: Option<Box<StreamIo>>,
}

impl StreamCx {
    /// A context for a stream that begins now.
    #[must_use]
    pub fn new(connection: Arc<ConnectionFacts>, protocol: Protocol) -> Self {
        let started = clock::now();
        Self {
            remote: connection.remote,
            connection,
            protocol,
            started,
            started_at: clock::wall(started),
            route_name: None,
            cluster: None,
            upstream_host: None,
            upstream_local: None,
            attempts: 0,
            flags: ResponseFlags::NONE,
            details: Cow::Borrowed(""),
            transport_failure: None,
            route_changed: false,
            state: Extensions::new(),
            annotations: None,
            opened: None,
        }
    }

    /// The bodies of the stream and the way to send requests, for filters that say that they use
    /// them ([`crate::HttpFilter::uses_io`]).
    pub fn io(&mut self) -> &mut StreamIo {
        self.opened.get_or_insert_default()
    }

    /// What filters say about the stream, to change.
    pub fn annotate(&mut self) -> &mut Annotations {
        self.annotations.get_or_insert_default()
    }

    /// What an access log or a header's value can say about the stream as it is now, and about its
    /// request where that is still there.
    #[must_use]
    pub fn record<'a>(&'a self, request: Option<&'a RequestHead>) -> LogRecord<'a> {
        let of_connection = self.connection.record();
        let record = LogRecord {
            started_at: self.started_at,
            duration: Some(self.started.elapsed()),
            protocol: Some(self.protocol.as_str()),
            flags: self.flags,
            details: &self.details,
            transport_failure: self.transport_failure.as_deref(),
            upstream_host: self.upstream_host,
            upstream_cluster: self.cluster.as_deref(),
            upstream_local: self.upstream_local,
            downstream_remote: self.remote,
            route_name: self.route_name.as_deref(),
            attempts: self.attempts,
            annotations: [self.annotations.as_deref(), of_connection.annotations[1]],
            ..of_connection
        };
        let Some(head) = request else { return record };
        let header =
            |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        LogRecord {
            method: Some(head.method.as_str()),
            scheme: header(FORWARDED_PROTO),
            authority: authority.or_else(|| header(HOST)),
            path: head.uri.path_and_query().map(|path| path.as_str()),
            original_path: header(ORIGINAL_PATH),
            request_headers: Some(&head.headers),
            ..record
        }
    }

    /// Sets a response flag and, if none is set yet, the details.
    pub fn fail(&mut self, flag: ResponseFlag, details: impl Into<Cow<'static, str>>) {
        self.flags.set(flag);
        if self.details.is_empty() {
            self.details = details.into();
        }
    }
}
