//! What statistics of a mesh say of a cluster that its name does not.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The service that a cluster stands for (`filter_metadata.istio.services`, the first of them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshService {
    /// `host`
    pub host: String,
    /// `name`; the host up to its first dot where there is none.
    pub name: String,
    /// `namespace`; may be empty.
    pub namespace: String,
}

/// Looks up what the configuration says of clusters at the moment. Asked when a label set is new,
/// not for each request.
pub trait ClusterFacts: fmt::Debug {
    /// The service of a cluster.
    fn service(&self, cluster: &str) -> Option<Arc<MeshService>>;

    /// The workload behind an endpoint (`filter_metadata.istio.workload`), as the control plane wrote
    /// it.
    fn workload(&self, cluster: &str, address: SocketAddr) -> Option<Arc<str>>;
}
