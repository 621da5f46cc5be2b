//! The load of clusters, for load reports.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weft_model::{
    ClusterHandle, Discovery, Endpoint, EndpointAddress, HostTotals, Locality, SnapshotWatch,
};
use weft_xds_client::{LoadSource, WantedLoads};
use weft_xds_proto::pb::envoy::config::core::v3::{
    Address, Locality as PbLocality, Pipe, SocketAddress, address, socket_address::PortSpecifier,
};
use weft_xds_proto::pb::envoy::config::endpoint::v3::{
    ClusterStats, UpstreamEndpointStats, UpstreamLocalityStats, cluster_stats::DroppedRequests,
};

/// The category of requests that the control plane has dropped.
const DROPPED: &str = "drop_overload";

/// Remembers what was reported of each cluster that serves.
pub struct ClusterLoads {
    snapshot: SnapshotWatch,
    before: HashMap<u32, Before>,
}

/// What was counted when a cluster was reported last.
#[derive(Default)]
struct Before {
    hosts: HashMap<EndpointAddress, HostTotals>,
    overflowed: u64,
    dropped: u64,
}

impl ClusterLoads {
    /// Of the clusters in these snapshots.
    #[must_use]
    pub fn new(snapshot: SnapshotWatch) -> Self {
        Self { snapshot, before: HashMap::new() }
    }
}

impl LoadSource for ClusterLoads {
    fn report(&mut self, wanted: &WantedLoads) -> Vec<ClusterStats> {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let handles = snapshot.clusters.values().filter(|one| wanted.includes(one.name()));
        let mut known = std::mem::take(&mut self.before);
        let mut reports = Vec::new();
        for handle in handles {
            let mut before = known.remove(&handle.id()).unwrap_or_default();
            reports.push(before.report(handle, wanted.by_endpoint));
            self.before.insert(handle.id(), before);
        }
        reports
    }
}

impl Before {
    fn report(&mut self, handle: &ClusterHandle, by_endpoint: bool) -> ClusterStats {
        let endpoints = Arc::clone(&handle.endpoints());
        let mut states = handle.host_states(&endpoints).into_iter();
        let mut hosts = HashMap::new();
        let mut localities: BTreeMap<(u32, Arc<Locality>), UpstreamLocalityStats> = BTreeMap::new();
        for (priority, level) in (0..).zip(&endpoints.priorities) {
            for (endpoint, state) in level.endpoints.iter().zip(&mut states) {
                let now = state.totals();
                let load = Load::between(self.hosts.get(&endpoint.address), &now);
                hosts.insert(endpoint.address.clone(), now);
                if load != Load::default() {
                    let key = (priority, Arc::clone(&endpoint.locality));
                    let locality = localities.entry(key).or_default();
                    load.add_to(locality);
                    if by_endpoint {
                        locality.upstream_endpoint_stats.push(load.of(endpoint));
                    }
                }
            }
        }
        self.hosts = hosts;
        let overflowed = handle.stats().rq_pending_overflow.value();
        let dropped = match endpoints.drop {
            None => self.dropped,
            Some(_) => handle.stats_scope().counter("upstream_rq_drop_overload").value(),
        };
        let total = overflowed.saturating_sub(std::mem::replace(&mut self.overflowed, overflowed));
        let by_server = dropped.saturating_sub(std::mem::replace(&mut self.dropped, dropped));
        let category = DroppedRequests { category: DROPPED.to_owned(), dropped_count: by_server };
        ClusterStats {
            cluster_name: handle.name().to_string(),
            cluster_service_name: service_name(handle),
            upstream_locality_stats: localities.into_iter().map(described).collect(),
            total_dropped_requests: total + by_server,
            dropped_requests: if by_server > 0 { vec![category] } else { Vec::new() },
            ..ClusterStats::default()
        }
    }
}

fn service_name(handle: &ClusterHandle) -> String {
    match &handle.config().discovery {
        Discovery::Eds(name) if name != handle.name() => name.to_string(),
        _ => String::new(),
    }
}

fn described(
    ((priority, locality), stats): ((u32, Arc<Locality>), UpstreamLocalityStats),
) -> UpstreamLocalityStats {
    let Locality { region, zone, sub_zone } = (*locality).clone();
    UpstreamLocalityStats {
        locality: Some(PbLocality { region, zone, sub_zone }),
        priority,
        ..stats
    }
}

/// Requests of a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    issued: u64,
    successful: u64,
    failed: u64,
    active: u64,
}

impl Load {
    fn between(before: Option<&HostTotals>, now: &HostTotals) -> Self {
        let since = |of: fn(&HostTotals) -> u64| of(now).saturating_sub(before.map_or(0, of));
        Self {
            issued: since(|totals| totals.rq_total),
            successful: since(|totals| totals.rq_success),
            failed: since(|totals| totals.rq_error),
            active: now.rq_active,
        }
    }

    fn add_to(self, locality: &mut UpstreamLocalityStats) {
        locality.total_issued_requests += self.issued;
        locality.total_successful_requests += self.successful;
        locality.total_error_requests += self.failed;
        locality.total_requests_in_progress += self.active;
    }

    fn of(self, endpoint: &Endpoint) -> UpstreamEndpointStats {
        UpstreamEndpointStats {
            address: Some(address(&endpoint.address)),
            total_issued_requests: self.issued,
            total_successful_requests: self.successful,
            total_error_requests: self.failed,
            total_requests_in_progress: self.active,
            ..UpstreamEndpointStats::default()
        }
    }
}

fn address(address: &EndpointAddress) -> Address {
    let address = match address {
        EndpointAddress::Socket(address) => address::Address::SocketAddress(SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..SocketAddress::default()
        }),
        EndpointAddress::Pipe(path) => {
            address::Address::Pipe(Pipe { path: path.display().to_string(), mode: 0 })
        }
    };
    Address { address: Some(address) }
}
