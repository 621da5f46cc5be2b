//! Aggregate clusters: the endpoints of other clusters. The load is spread as if the clusters'
//! priorities stood one after the other; the chosen cluster then chooses as it always does.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::balance::{Census, shares};
use crate::cluster::{PickContext, Picked, WorkerCluster};
use crate::error::UpstreamError;

/// Percent.
const WHOLE: u64 = 100;

/// A cluster of an aggregate, and how its endpoints are.
type Part = (Rc<WorkerCluster>, Vec<Census>);

/// An aggregate while it looks at its clusters.
struct Entered<'a>(&'a Cell<bool>);

impl<'a> Entered<'a> {
    /// None, if it is looking already: it is a part of itself.
    fn new(entered: &'a Cell<bool>) -> Option<Self> {
        (!entered.replace(true)).then(|| Self(entered))
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl WorkerCluster {
    /// The clusters of these names that are there; none of an aggregate that is a part of itself.
    pub(crate) fn parts(&self, clusters: &[Arc<str>]) -> Vec<Part> {
        let Some(_entered) = Entered::new(&self.entered) else { return Vec::new() };
        self.counted(clusters)
    }

    fn counted(&self, clusters: &[Arc<str>]) -> Vec<Part> {
        let found = clusters.iter().filter_map(|name| self.cx.worker.cluster(name));
        found.map(|cluster| (Rc::clone(&cluster), cluster.census())).collect()
    }

    /// Chooses a cluster by how all of them are, and an endpoint of it; none if there is none.
    pub(crate) fn pick_among(
        &self,
        clusters: &[Arc<str>],
        panic_threshold: f64,
        cx: &PickContext<'_>,
    ) -> Option<Result<Picked, UpstreamError>> {
        let _entered = Entered::new(&self.entered)?;
        let parts = self.counted(clusters);
        let counted: Vec<&[Census]> = parts.iter().map(|(_, census)| census.as_slice()).collect();
        let shares = shares(&counted, panic_threshold);
        let mut at = cx.hash.unwrap_or_else(|| fastrand::u64(..)) % WHOLE;
        for ((cluster, _), share) in parts.iter().zip(shares) {
            if at < u64::from(share) {
                let picked = cluster.pick(cx);
                return Some(picked.map(|mut picked| {
                    picked.owner.get_or_insert_with(|| Rc::clone(cluster));
                    picked
                }));
            }
            at -= u64::from(share);
        }
        None
    }
}
