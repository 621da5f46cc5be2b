//! Which cluster a request goes to.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderName;
use http::request::Parts as RequestHead;
use weft_model::{
    ClusterChoice, ClusterSlot, Discovery, Forward, HeaderMutations, WeightedCluster,
};
use weft_upstream::WorkerCluster;

use crate::manager::Plan;

/// The chosen cluster, and what its weight entry adds.
pub(super) struct Target<'a> {
    pub(super) cluster: Rc<WorkerCluster>,
    pub(super) weighted: Option<&'a WeightedCluster>,
    /// How much of a request's body is kept for another try, bytes.
    pub(super) buffer_limit: usize,
    /// The header that tells an ORIGINAL_DST cluster where to go.
    pub(super) destination_header: Option<HeaderName>,
    /// Whether the TLS handshake names the request's host.
    pub(super) auto_sni: bool,
}

impl<'a> Target<'a> {
    fn new(cluster: Rc<WorkerCluster>, weighted: Option<&'a WeightedCluster>) -> Self {
        let config = cluster.handle().config();
        let buffer_limit = usize::try_from(config.buffer_limit).unwrap_or(usize::MAX);
        let destination_header = match &config.discovery {
            Discovery::OriginalDst { header, .. } => header.clone(),
            _ => None,
        };
        let auto_sni = config.auto_sni;
        drop(config);
        Self { cluster, weighted, buffer_limit, destination_header, auto_sni }
    }

    /// Changes of the response that the weight entry asks for.
    pub(super) fn response_changes(&self) -> Option<&'a HeaderMutations> {
        self.weighted.map(|weighted| &weighted.response_headers)
    }
}

/// The cluster that the route names; `None`: there is none of this name.
pub(super) fn target<'a>(
    plan: &Plan<'_>,
    action: &'a Forward,
    head: &RequestHead,
) -> Option<Target<'a>> {
    match &action.clusters {
        ClusterChoice::One(slot) => Some(Target::new(of_slot(plan, slot)?, None)),
        ClusterChoice::Weighted(weighted) => {
            let chosen = weighted.choose(plan.random)?;
            Some(Target::new(of_slot(plan, &chosen.cluster)?, Some(chosen)))
        }
        ClusterChoice::Header(name) => {
            let name = head.headers.get(name)?.to_str().ok()?;
            let worker = &plan.connection.worker;
            let snapshot = worker.snapshot.borrow();
            let cluster = worker.upstreams.cluster(snapshot.clusters.get(name)?);
            Some(Target::new(cluster, None))
        }
    }
}

/// The name of the cluster that the route names.
pub(super) fn name(plan: &Plan<'_>, action: &Forward, head: &RequestHead) -> Option<Arc<str>> {
    match &action.clusters {
        ClusterChoice::One(slot) => Some(Arc::clone(slot.name())),
        ClusterChoice::Weighted(weighted) => {
            Some(Arc::clone(weighted.choose(plan.random)?.cluster.name()))
        }
        ClusterChoice::Header(name) => Some(head.headers.get(name)?.to_str().ok()?.into()),
    }
}

/// The worker's state of the cluster in a slot.
pub(super) fn of_slot(plan: &Plan<'_>, slot: &ClusterSlot) -> Option<Rc<WorkerCluster>> {
    slot.peek().as_ref().map(|handle| plan.connection.worker.upstreams.cluster(handle))
}
