//! `istio.metadata_exchange`: tells the peer who this workload is, in two headers, and keeps what
//! the peer tells from the application.

use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderName, HeaderValue};
use weft_filter_api::{Flow, HttpFilter, RouteFilterConfig, StreamCx};

pub(crate) mod config;
#[cfg(test)]
mod tests;

static METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");
static METADATA_ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");

/// The cluster that leads out of the mesh: nobody there is to know who called.
const PASSTHROUGH: &str = "PassthroughCluster";

/// Which of the four parts are on, and what this workload says of itself.
#[derive(Debug)]
pub(crate) struct PeerMetadata {
    /// `downstream_discovery`: read and strip requests' headers.
    from_client: bool,
    /// `downstream_propagation`: answer clients that told who they are.
    to_client: bool,
    /// `upstream_discovery`: read and strip responses' headers.
    from_upstream: bool,
    /// `upstream_propagation`: tell the upstream.
    to_upstream: bool,
    /// `istio_headers.skip_external_clusters`
    skip_external: bool,
    metadata: HeaderValue,
    id: HeaderValue,
}

/// The client sent its metadata.
#[derive(Clone, Copy)]
struct ClientTold;

impl PeerMetadata {
    fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(METADATA.clone(), self.metadata.clone());
        headers.insert(METADATA_ID.clone(), self.id.clone());
    }
}

/// Removes both headers; whether any was there.
fn strip(headers: &mut HeaderMap) -> bool {
    let metadata = headers.remove(&METADATA).is_some();
    headers.remove(&METADATA_ID).is_some() || metadata
}

impl HttpFilter for PeerMetadata {
    fn reads_route(&self) -> bool {
        self.skip_external
    }

    fn sees_responses(&self) -> bool {
        self.from_upstream || self.to_client
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        if self.from_client && strip(&mut head.headers) {
            cx.state.insert(ClientTold);
        }
        // A route that names no single cluster leads into the mesh.
        let outside = cx.cluster.as_deref() == Some(PASSTHROUGH);
        if self.to_upstream && !(outside && self.skip_external) {
            self.tell(&mut head.headers);
        }
        Flow::Continue
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        if self.from_upstream {
            strip(&mut head.headers);
        }
        if self.to_client && cx.state.get::<ClientTold>().is_some() {
            self.tell(&mut head.headers);
        }
        Flow::Continue
    }
}
