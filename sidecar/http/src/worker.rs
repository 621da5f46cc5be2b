//! What all connections of one worker share.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use weft_filter_api::Callouts;
use weft_model::{EndpointAddress, SnapshotWatch};
use weft_net::Timers;
use weft_telemetry::{ClusterFacts, MeshService};
use weft_upstream::Upstreams;

use crate::callouts::WorkerCallouts;

/// The state of one worker that serving a connection needs; belongs to its thread.
pub struct WorkerCx {
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) timers: Timers,
    pub(crate) snapshot: SnapshotWatch,
    pub(crate) callouts: Rc<dyn Callouts>,
}

impl WorkerCx {
    /// The state of one of `workers` workers. To be called on the worker's local runtime.
    #[must_use]
    pub fn new(snapshot: SnapshotWatch, workers: usize) -> Rc<Self> {
        let upstreams = Upstreams::new(snapshot.clone(), workers);
        let callouts =
            WorkerCallouts { upstreams: Rc::clone(&upstreams), snapshot: snapshot.clone() };
        Rc::new(Self { upstreams, timers: Timers::new(), snapshot, callouts: Rc::new(callouts) })
    }

    /// The clusters of this worker.
    #[must_use]
    pub fn upstreams(&self) -> &Rc<Upstreams> {
        &self.upstreams
    }

    /// The way to send requests to any cluster from this worker.
    #[must_use]
    pub fn callouts(&self) -> &Rc<dyn Callouts> {
        &self.callouts
    }

    /// The deadlines of this worker.
    #[must_use]
    pub fn timers(&self) -> &Timers {
        &self.timers
    }
}

impl ClusterFacts for WorkerCx {
    fn service(&self, cluster: &str) -> Option<Arc<MeshService>> {
        self.snapshot.borrow().clusters.get(cluster)?.config().service.clone()
    }

    fn workload(&self, cluster: &str, address: SocketAddr) -> Option<Arc<str>> {
        let snapshot = self.snapshot.borrow();
        let endpoints = snapshot.clusters.get(cluster)?.endpoints();
        let wanted = EndpointAddress::Socket(address);
        endpoints.iter().find(|endpoint| endpoint.address == wanted)?.workload.clone()
    }
}

impl fmt::Debug for WorkerCx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerCx").field("upstreams", &self.upstreams).finish_non_exhaustive()
    }
}
