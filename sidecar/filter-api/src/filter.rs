//! The traits of filters, and what a filter can answer.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, StatusCode};

use crate::{ConnectionFacts, StreamCx};

/// What a filter waits for; it holds the context meanwhile and gives it back.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = Option<LocalReply>> + 'a>>;

/// What happens after a filter saw a request's head.
pub enum Flow<'a> {
    /// The next filter's turn.
    Continue,
    /// Ends the request with this reply; later filters do not see it.
    Reply(LocalReply),
    /// Waits; `None` continues, a reply ends the request.
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

/// An HTTP filter, compiled and shared.
pub trait HttpFilter: Debug + Send + Sync + 'static {
    /// Whether [`Self::request`] has anything to do.
    fn sees_requests(&self) -> bool {
        true
    }

    /// Whether [`Self::response`] has anything to do.
    fn sees_responses(&self) -> bool {
        false
    }

    /// Sees and changes a request's head; in the order of the configuration.
    ///
    /// `route` is this filter's configuration on the chosen route, where there is one.
    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a>;

    /// Sees and changes a response's head; in reverse order.
    fn response(
        &self,
        _cx: &mut StreamCx,
        _head: &mut ResponseHead,
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
    pub clusters: Option<std::time::Duration>,
}

/// What happens after a network filter saw a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkFlow {
    /// The next filter's turn.
    Continue,
    /// Closes the connection.
    Close,
}

/// A network filter that comes before the terminal one.
pub trait NetworkFilter: Debug + Send + Sync + 'static {
    /// Sees a new connection, after its TLS handshake.
    fn connected(&self, connection: &mut ConnectionFacts) -> NetworkFlow;
}
