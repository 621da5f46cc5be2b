//! The traits of filters, and what a filter can answer.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, StatusCode};
use weft_telemetry::LogRecord;

use crate::{Callouts, ConnectionFacts, PeerExchange, StreamCx};

/// What a filter waits for; it holds the context meanwhile and gives it back.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = Option<LocalReply>> + 'a>>;

/// What happens after a filter saw the head of a request or a response.
pub enum Flow<'a> {
    /// The next filter's turn.
    Continue,
    /// Ends the request with this reply: later filters do not see the request, and every filter
    /// sees the reply as a response. In the place of a response it goes to the client as it is.
    Reply(LocalReply),
    /// Waits; `None` continues, a reply is as [`Self::Reply`]. The stream's time limits hold
    /// meanwhile.
    Await(Waiting<'a>),
}

/// A response made by the proxy itself.
#[derive(Clone, Debug)]
pub struct LocalReply {
    /// The status.
    pub status: StatusCode,
    /// Headers besides those of the body.
    pub headers: HeaderMap,
    /// The body; for gRPC requests it becomes `grpc-message`.
    pub body: Bytes,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Cow<'static, str>,
}

impl LocalReply {
    /// A reply with a plain-text body.
    #[must_use]
    pub fn text(
        status: StatusCode,
        body: impl Into<Bytes>,
        details: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, headers: HeaderMap::new(), body: body.into(), details: details.into() }
    }
}

/// Per-route configuration of a filter, compiled by the filter (`typed_per_filter_config`).
pub type RouteFilterConfig = Arc<dyn Any + Send + Sync>;

/// Where a route keeps its compiled `rate_limits` among its filters' configurations.
pub const RATE_LIMITS: &str = "route.rate_limits";

/// The compiled `rate_limits` of a route and its virtual host, in [`StreamCx::state`] of streams
/// that have a filter that reads them.
#[derive(Clone)]
pub struct RouteRateLimits(pub RouteFilterConfig);

/// An HTTP filter, compiled and shared by all workers.
///
/// The methods that say what a filter looks at are asked for each stream: they return constants or
/// what was computed when the filter was compiled. A stream pays only for what its filters say.
///
/// A filter sees a response even where it has not seen the request: replies of the proxy's own
/// (a filter before it that refuses, a missing route) pass all filters, as in Envoy.
pub trait HttpFilter: Debug + Send + Sync + 'static {
    /// Whether [`Self::request`] has anything to do.
    fn sees_requests(&self) -> bool {
        true
    }

    /// Whether [`Self::response`] has anything to do.
    fn sees_responses(&self) -> bool {
        false
    }

    /// Whether the filter reads or changes bodies, or sends requests of its own; without this
    /// [`StreamCx::io`] has no bodies, and each of its callouts fails.
    fn uses_io(&self) -> bool {
        false
    }

    /// Whether [`Self::request`] looks at where the route leads ([`StreamCx::cluster`], where the
    /// route names one) and at its `rate_limits` ([`RouteRateLimits`]).
    fn reads_route(&self) -> bool {
        false
    }

    /// Whether [`Self::finished`] has anything to do. Asked once, when the filter chain is compiled.
    fn sees_ends(&self) -> bool {
        false
    }

    /// Whether [`Self::finished`] looks at [`LogRecord::messages`]. Asked as [`Self::sees_ends`].
    fn counts_messages(&self) -> bool {
        false
    }

    /// Sees and changes a request: its head, and by [`StreamCx::io`] its body. Filters see it in
    /// the order of the configuration.
    ///
    /// `route` is this filter's configuration on the chosen route, where there is one.
    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a>;

    /// Sees and changes a response: its head, and by [`StreamCx::io`] its body; in reverse order.
    /// A reply takes the response's place and is seen by no other filter, as in Envoy.
    fn response<'a>(
        &'a self,
        _cx: &'a mut StreamCx,
        _head: &'a mut ResponseHead,
        _route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        Flow::Continue
    }

    /// Sees a stream that has ended, however it did: answered, cut off or left by its client. Called
    /// once for each stream, those included whose request was refused before it reached the filters;
    /// `record` is what an access log is given.
    fn finished(
        &self,
        _cx: &StreamCx,
        _record: &LogRecord<'_>,
        _route: Option<&RouteFilterConfig>,
    ) {
    }
}

/// What `envoy.filters.http.on_demand` fetches when a request needs it and it is not there; of the
/// filter, or of one route. Not a filter to run: the connection manager looks at it only for
/// requests that have no virtual host or no cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnDemandSettings {
    /// `odcds.timeout`: clusters are fetched, and waited for this long; `None`: they are not.
    pub clusters: Option<Duration>,
}

/// Filter state: the cluster that `tcp_proxy` uses in the place of the configured one.
pub const TCP_CLUSTER: &str = "envoy.tcp_proxy.cluster";

/// What a network filter waits for; true: the connection may go on.
pub type Admission<'a> = Pin<Box<dyn Future<Output = bool> + 'a>>;

/// What happens after a network filter saw a new connection.
pub enum NetworkFlow<'a> {
    /// The next filter's turn.
    Continue,
    /// Closes the connection.
    Close,
    /// Waits; then one of the two. Dropped when the proxy drains meanwhile.
    Await(Admission<'a>),
}

/// What a connection of the TCP proxy has carried.
#[derive(Clone, Copy, Debug)]
pub struct Carried<'a> {
    /// What an access log would be given now. Its flags are those of the first time.
    pub record: LogRecord<'a>,
    /// The filter was not told of the connection before.
    pub first: bool,
    /// The connection has ended.
    pub last: bool,
    /// Bytes from the client since the filter was told last.
    pub received: u64,
    /// Bytes to the client since the filter was told last.
    pub sent: u64,
    /// What the client said of itself (Istio's metadata exchange): Base64 of an encoded `Struct`.
    pub client_metadata: Option<&'a [u8]>,
    /// The same of the upstream.
    pub upstream_metadata: Option<&'a [u8]>,
}

/// A network filter that comes before the terminal one.
pub trait NetworkFilter: Debug + Send + Sync + 'static {
    /// Sees a new connection, after its TLS handshake, on the worker that serves it; `callouts`
    /// sends requests from there.
    fn connected<'a>(
        &'a self,
        connection: &'a mut ConnectionFacts,
        callouts: &'a Rc<dyn Callouts>,
    ) -> NetworkFlow<'a>;

    /// What both ends tell each other first, where they agreed on it by ALPN.
    fn peer_exchange(&self) -> Option<&Arc<PeerExchange>> {
        None
    }

    /// How often [`Self::carried`] is told while a connection lasts; `None`: never, nor when it ends.
    fn watches(&self) -> Option<Duration> {
        None
    }

    /// Sees what the TCP proxy carried: now and then, and when the connection has ended.
    fn carried(&self, _carried: &Carried<'_>) {}
}
