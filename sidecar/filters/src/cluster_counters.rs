//! Counters of filters that stand among those of the cluster a request goes to.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use weft_telemetry::{Counter, Registry};

/// `cluster.<cluster>.<name>`, made when they are first counted: which clusters there are is known
/// only to requests.
#[derive(Debug)]
pub(crate) struct ClusterCounters {
    registry: Registry,
    known: Mutex<HashMap<Arc<str>, HashMap<String, Counter>>>,
}

impl ClusterCounters {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self { registry: registry.clone(), known: Mutex::default() }
    }

    /// Adds `n` to a counter.
    pub(crate) fn add(&self, cluster: &Arc<str>, name: &str, n: u64) {
        let mut known = self.known.lock();
        let counters = known.entry(Arc::clone(cluster)).or_default();
        if let Some(counter) = counters.get(name) {
            counter.add(n);
            return;
        }
        let scope = self.registry.scope("cluster", Some(("envoy_cluster_name", cluster)));
        let counter = scope.counter(name);
        counter.add(n);
        counters.insert(name.to_owned(), counter);
    }
}
