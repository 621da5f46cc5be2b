//! What a worker remembers about one endpoint.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;
use weft_model::{Endpoint, EndpointAddress, Health, HostCounters, HostState, TransportChoice};

use crate::cluster::ClusterCx;
use crate::dial::Target;
use crate::pool::{Pool, PoolKey};

/// What distinguishes hosts: endpoints that differ in nothing else share their connections.
pub(crate) type HostKey = (EndpointAddress, TransportChoice);

/// An endpoint at run time; outlives changes of the endpoint's other properties.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) address: EndpointAddress,
    transport: TransportChoice,
    /// What all workers remember of it.
    pub(crate) state: Arc<HostState>,
    /// What this worker counts.
    pub(crate) counters: Arc<HostCounters>,
    /// The tick at which it was chosen last.
    pub(crate) last_used: Cell<u32>,
    retired: Cell<bool>,
    pools: RefCell<SmallVec<[Rc<Pool>; 1]>>,
}

/// An endpoint together with its host.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) host: Rc<Host>,
    /// What the control plane reports and what was found out, together.
    pub(crate) health: Health,
    /// It does not count when health is measured.
    pub(crate) excluded: bool,
}

impl Host {
    pub(crate) fn new(transport: TransportChoice, state: Arc<HostState>, worker: u32) -> Self {
        Self {
            address: state.address().clone(),
            transport,
            counters: state.counters(worker),
            state,
            last_used: Cell::new(0),
            retired: Cell::new(false),
            pools: RefCell::default(),
        }
    }

    /// Requests in flight.
    pub(crate) fn active(&self) -> u64 {
        self.counters.rq_active.value()
    }

    /// The pool for connections of one kind; made at first use.
    pub(crate) fn pool(&self, cluster: &Rc<ClusterCx>, key: &PoolKey<'_>) -> Rc<Pool> {
        if let Some(pool) = self.pools.borrow().iter().find(|pool| pool.is_for(key)) {
            return Rc::clone(pool);
        }
        let target = self.target(key);
        let pool = Rc::new(Pool::new(Rc::clone(cluster), target, Arc::clone(&self.counters), key));
        if self.retired.get() {
            pool.retire();
        }
        self.pools.borrow_mut().push(Rc::clone(&pool));
        pool
    }

    pub(crate) fn target(&self, key: &PoolKey<'_>) -> Target {
        Target {
            address: self.address.clone(),
            more: key.more.cloned(),
            client: key.client.cloned(),
            transport: self.transport,
            sni: key.sni.map(Into::into),
            alpn: key.alpn.cloned(),
        }
    }

    /// Closes what is idle; what is in use is closed when it is given back.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        for pool in self.pools.borrow().iter() {
            pool.retire();
        }
    }

    /// Closes the connections that there are; what is in use is closed when it is given back.
    pub(crate) fn close_connections(&self) {
        for pool in self.pools.take() {
            pool.retire();
        }
    }

    /// Closes connections that were idle for too long; returns whether any is left.
    pub(crate) fn sweep(&self, now: u32) -> bool {
        let mut pools = self.pools.borrow_mut();
        pools.retain(|pool| pool.sweep(now));
        !pools.is_empty()
    }
}
