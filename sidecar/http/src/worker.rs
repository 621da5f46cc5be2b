//! What all connections of one worker share.

use std::fmt;
use std::rc::Rc;

use weft_filter_api::Callouts;
use weft_model::SnapshotWatch;
use weft_net::Timers;
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

impl fmt::Debug for WorkerCx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerCx").field("upstreams", &self.upstreams).finish_non_exhaustive()
    }
}
