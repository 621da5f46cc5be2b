//! Which cluster a request goes to.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts as RequestHead;
use http::{HeaderName, StatusCode};
use weft_filter_api::LocalReply;
use weft_model::{
    ClusterChoice, ClusterSlot, Discovery, Forward, HeaderMutations, NameFailure, WeightedCluster,
};
use weft_telemetry::ResponseFlag;
use weft_upstream::WorkerCluster;

use crate::inbound::authority;
use crate::manager::Plan;
use crate::stream::Stream;

/// The chosen cluster, and what its weight entry adds.
pub(super) struct Target<'a> {
    pub(super) cluster: Rc<WorkerCluster>,
    pub(super) weighted: Option<&'a WeightedCluster>,
    /// How much of a request's body is kept for another try, bytes.
    pub(super) buffer_limit: usize,
    /// The header that tells an ORIGINAL_DST cluster where to go.
    pub(super) destination_header: Option<HeaderName>,
    /// The address of the request's host, where the cluster is a dynamic forward proxy.
    pub(super) named: Option<SocketAddr>,
    /// Whether the cluster is a dynamic forward proxy.
    pub(super) by_name: bool,
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
        let by_name = matches!(config.discovery, Discovery::Named(_));
        let auto_sni = config.auto_sni;
        drop(config);
        Self { cluster, weighted, buffer_limit, destination_header, named: None, by_name, auto_sni }
    }

    /// Finds the address of the request's host, where the cluster wants it.
    pub(super) async fn find_host(&mut self, head: &RequestHead) -> Result<(), Unresolved> {
        let config = Arc::clone(&self.cluster.handle().config());
        let Discovery::Named(settings) = &config.discovery else { return Ok(()) };
        let secure = config.default_socket.tls().is_some();
        let authority = authority(head);
        let (name, port) =
            split_port(authority).unwrap_or((authority, if secure { 443 } else { 80 }));
        let found = self.cluster.handle().names().address(name, settings).await;
        match found {
            Ok(address) => {
                self.named = Some(SocketAddr::new(address, port));
                Ok(())
            }
            Err(failure) => Err(Unresolved(failure)),
        }
    }

    /// Changes of the response that the weight entry asks for.
    pub(super) fn response_changes(&self) -> Option<&'a HeaderMutations> {
        self.weighted.map(|weighted| &weighted.response_headers)
    }
}

/// The request's host has no address.
pub(super) struct Unresolved(NameFailure);

impl Unresolved {
    /// What the client is told.
    pub(super) fn reply(&self, stream: &mut Stream) -> LocalReply {
        let (flag, text, details) = match self.0 {
            NameFailure::Unresolved => (
                ResponseFlag::DnsResolutionFailed,
                "DNS resolution failure",
                "dns_resolution_failure",
            ),
            NameFailure::Overflow => {
                (ResponseFlag::UpstreamOverflow, "DNS cache overflow", "dns_cache_overflow")
            }
        };
        stream.cx.flags.set(flag);
        LocalReply::text(StatusCode::SERVICE_UNAVAILABLE, text, details)
    }
}

/// A host and its port.
fn split_port(authority: &str) -> Option<(&str, u16)> {
    let (name, port) = authority.rsplit_once(':')?;
    // The last part of an address of IPv6 without brackets is no port.
    let whole = name.ends_with(']') || !name.contains(':');
    Some((name, port.parse().ok()?)).filter(|_| whole)
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
