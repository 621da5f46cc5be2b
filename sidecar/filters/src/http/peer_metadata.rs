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

/// The client told who it is; in [`StreamCx::state`] what it said, as it came.
#[derive(Clone)]
pub(crate) struct ClientMetadata(pub(crate) Option<HeaderValue>);

/// The same of the upstream.
#[derive(Clone)]
pub(crate) struct UpstreamMetadata(pub(crate) HeaderValue);

impl PeerMetadata {
    fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(METADATA.clone(), self.metadata.clone());
        headers.insert(METADATA_ID.clone(), self.id.clone());
    }
}

/// Removes both headers; `None` where there was none of them.
fn strip(headers: &mut HeaderMap) -> Option<ClientMetadata> {
    let metadata = headers.remove(&METADATA);
    let id = headers.remove(&METADATA_ID);
    (metadata.is_some() || id.is_some()).then_some(ClientMetadata(metadata))
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
        if self.from_client
            && let Some(told) = strip(&mut head.headers)
        {
            cx.state.insert(told);
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
        if self.from_upstream
            && let Some(ClientMetadata(Some(told))) = strip(&mut head.headers)
        {
            cx.state.insert(UpstreamMetadata(told));
        }
        if self.to_client && cx.state.get::<ClientMetadata>().is_some() {
            self.tell(&mut head.headers);
        }
        Flow::Continue
    }
}
