//! Filters whose configuration is discovered apart from their listener's (ECDS): a change swaps the
//! filter and leaves connections alone.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use smallvec::SmallVec;
use weft_filter_api::{
    Callouts, ConnectionFacts, Flow, HttpFilter, LocalReply, NetworkFilter, NetworkFlow,
    RouteFilterConfig, StreamCx,
};
use weft_telemetry::{LogRecord, ResponseFlag};

use crate::Slot;

/// A filter as it came; `None`: it does nothing.
#[derive(Debug)]
pub struct Extension<F: ?Sized>(pub Option<Arc<F>>);

/// The place of an HTTP filter; empty: there is no configuration, and requests fail.
pub type HttpExtension = Slot<Extension<dyn HttpFilter>>;
/// The place of a network filter; empty: there is no configuration, and connections are closed.
pub type NetworkExtension = Slot<Extension<dyn NetworkFilter>>;

/// An HTTP filter that is discovered. Costs an allocation for each request, and all that a filter
/// can ask for: what it will look at is not known when its chain is compiled.
#[derive(Debug)]
pub struct DiscoveredHttpFilter(pub HttpExtension);

/// The versions that a stream's request has met, by the filter's place: its response meets the same.
#[derive(Clone, Default)]
struct Versions(SmallVec<[Met; 1]>);

/// A place and its version.
type Met = (usize, Arc<Extension<dyn HttpFilter>>);

impl DiscoveredHttpFilter {
    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// The version for a stream: the one that it has met, or the present one.
    fn version(&self, cx: &StreamCx) -> Option<Arc<Extension<dyn HttpFilter>>> {
        let met = cx.state.get::<Versions>();
        let met = met.and_then(|met| met.0.iter().find(|(key, _)| *key == self.key()));
        met.map(|(_, version)| Arc::clone(version)).or_else(|| self.0.get())
    }
}

impl HttpFilter for DiscoveredHttpFilter {
    fn sees_responses(&self) -> bool {
        true
    }

    fn uses_io(&self) -> bool {
        true
    }

    fn reads_route(&self) -> bool {
        true
    }

    fn sees_ends(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let Some(version) = self.version(cx) else {
            cx.flags.set(ResponseFlag::NoFilterConfigFound);
            let reply = LocalReply::text(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new(), "");
            return Flow::Reply(reply);
        };
        let met = cx.state.get_or_insert_default::<Versions>();
        if met.0.iter().all(|(key, _)| *key != self.key()) {
            met.0.push((self.key(), Arc::clone(&version)));
        }
        let Some(filter) = version.0.clone().filter(|filter| filter.sees_requests()) else {
            return Flow::Continue;
        };
        Flow::Await(Box::pin(async move {
            match filter.request(cx, head, route) {
                Flow::Continue => None,
                Flow::Reply(reply) => Some(reply),
                Flow::Await(waiting) => waiting.await,
            }
        }))
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let filter = self.version(cx).and_then(|version| version.0.clone());
        let Some(filter) = filter.filter(|filter| filter.sees_responses()) else {
            return Flow::Continue;
        };
        Flow::Await(Box::pin(async move {
            match filter.response(cx, head, route) {
                Flow::Continue => None,
                Flow::Reply(reply) => Some(reply),
                Flow::Await(waiting) => waiting.await,
            }
        }))
    }

    fn finished(&self, cx: &StreamCx, record: &LogRecord<'_>, route: Option<&RouteFilterConfig>) {
        let filter = self.version(cx).and_then(|version| version.0.clone());
        if let Some(filter) = filter.filter(|filter| filter.sees_ends()) {
            filter.finished(cx, record, route);
        }
    }
}

/// A network filter that is discovered.
#[derive(Debug)]
pub struct DiscoveredNetworkFilter(pub NetworkExtension);

impl NetworkFilter for DiscoveredNetworkFilter {
    fn connected<'a>(
        &'a self,
        connection: &'a mut ConnectionFacts,
        callouts: &'a Rc<dyn Callouts>,
    ) -> NetworkFlow<'a> {
        let Some(version) = self.0.get() else { return NetworkFlow::Close };
        let Some(filter) = version.0.clone() else { return NetworkFlow::Continue };
        NetworkFlow::Await(Box::pin(async move {
            match filter.connected(connection, callouts) {
                NetworkFlow::Continue => true,
                NetworkFlow::Close => false,
                NetworkFlow::Await(waiting) => waiting.await,
            }
        }))
    }
}

#[cfg(test)]
mod tests;
