//! All clusters of one worker.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tokio::time::MissedTickBehavior;
use weft_model::{ClusterHandle, SnapshotWatch};

use crate::WorkerCluster;

/// The worker's coarse clock: ages of connections are counted in ticks.
pub(crate) const TICK: Duration = Duration::from_secs(1);

static NEXT_ID: AtomicU32 = AtomicU32::new(0);

/// What all clusters of a worker share.
#[derive(Debug)]
pub(crate) struct WorkerCx {
    /// Number of workers: each gets its share of a limit.
    pub(crate) workers: u32,
    /// A number that no other worker of the process has.
    pub(crate) id: u32,
    now: Cell<u32>,
    upstreams: Weak<Upstreams>,
}

impl WorkerCx {
    /// Ticks since the worker started.
    pub(crate) fn now(&self) -> u32 {
        self.now.get()
    }

    /// The cluster of a name, where it is in service.
    pub(crate) fn cluster(&self, name: &str) -> Option<Rc<WorkerCluster>> {
        let upstreams = self.upstreams.upgrade()?;
        let handle = upstreams.snapshot.borrow().borrow().clusters.get(name).cloned();
        handle.map(|handle| upstreams.cluster(&handle))
    }
}

/// The run-time state of all clusters that a worker has used; belongs to its thread.
pub struct Upstreams {
    worker: Rc<WorkerCx>,
    snapshot: RefCell<SnapshotWatch>,
    clusters: RefCell<HashMap<u32, Rc<WorkerCluster>, RandomState>>,
}

impl Upstreams {
    /// The clusters of one of `workers` workers. To be called on the worker's local runtime: one
    /// task there ends idle connections and forgets clusters that are gone.
    #[must_use]
    pub fn new(snapshot: SnapshotWatch, workers: usize) -> Rc<Self> {
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let upstreams = Rc::new_cyclic(|upstreams| Self {
            worker: Rc::new(WorkerCx {
                workers,
                id,
                now: Cell::new(0),
                upstreams: Weak::clone(upstreams),
            }),
            snapshot: RefCell::new(snapshot),
            clusters: RefCell::default(),
        });
        tokio::task::spawn_local(keep_tidy(Rc::downgrade(&upstreams)));
        upstreams
    }

    /// This worker's state of a cluster; made at the first use.
    #[must_use]
    pub fn cluster(&self, handle: &Arc<ClusterHandle>) -> Rc<WorkerCluster> {
        if let Some(cluster) = self.clusters.borrow().get(&handle.id()) {
            return Rc::clone(cluster);
        }
        let cluster = Rc::new(WorkerCluster::new(Arc::clone(handle), Rc::clone(&self.worker)));
        self.clusters.borrow_mut().insert(handle.id(), Rc::clone(&cluster));
        cluster
    }

    fn tick(&self) {
        let now = self.worker.now() + 1;
        self.worker.now.set(now);
        self.forget_removed();
        for cluster in self.clusters.borrow().values() {
            cluster.sweep(now);
        }
    }

    /// Lets go of clusters that the snapshot no longer has.
    fn forget_removed(&self) {
        let mut snapshot = self.snapshot.borrow_mut();
        if !snapshot.has_changed().unwrap_or(false) {
            return;
        }
        let snapshot = Arc::clone(&snapshot.borrow_and_update());
        self.clusters.borrow_mut().retain(|_, cluster| {
            let current = snapshot.clusters.get(cluster.handle().name());
            current.is_some_and(|current| Arc::ptr_eq(current, cluster.handle()))
        });
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams").field("clusters", &self.clusters.borrow().len()).finish()
    }
}

async fn keep_tidy(upstreams: Weak<Upstreams>) {
    let mut timer = tokio::time::interval(TICK);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer.tick().await;
    loop {
        timer.tick().await;
        let Some(upstreams) = upstreams.upgrade() else { return };
        upstreams.tick();
    }
}
