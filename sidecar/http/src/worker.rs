//! What all connections of one worker share.

use std::rc::Rc;

use weft_model::SnapshotWatch;
use weft_net::Timers;
use weft_upstream::Upstreams;

/// The state of one worker that serving a connection needs; belongs to its thread.
#[derive(Debug)]
pub struct WorkerCx {
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) timers: Timers,
    pub(crate) snapshot: SnapshotWatch,
}

impl WorkerCx {
    /// The state of one of `workers` workers. To be called on the worker's local runtime.
    #[must_use]
    pub fn new(snapshot: SnapshotWatch, workers: usize) -> Rc<Self> {
        let upstreams = Upstreams::new(snapshot.clone(), workers);
        Rc::new(Self { upstreams, timers: Timers::new(), snapshot })
    }

    /// The clusters of this worker.
    #[must_use]
    pub fn upstreams(&self) -> &Rc<Upstreams> {
        &self.upstreams
    }

    /// The deadlines of this worker.
    #[must_use]
    pub fn timers(&self) -> &Timers {
        &self.timers
    }
}
