//! The endpoints of a cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use weft_route::Fraction;

use crate::{EndpointCheck, Labels};

/// Where an endpoint is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// TCP.
    Socket(SocketAddr),
    /// A Unix domain socket.
    Pipe(PathBuf),
}

/// Health as the control plane reports it (`core.v3.HealthStatus`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// `HEALTHY` or `UNKNOWN`
    #[default]
    Healthy,
    /// `DEGRADED`: used when nothing better is there.
    Degraded,
    /// `UNHEALTHY` or `TIMEOUT`: not used.
    Unhealthy,
    /// `DRAINING`: no new work.
    Draining,
}

/// `core.v3.Locality`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Sub-zone.
    pub sub_zone: String,
}

/// Which of the cluster's transport sockets an endpoint is reached through:
/// an index into [`crate::Cluster::sockets`], or the default one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TransportChoice(pub Option<u16>);

/// One endpoint; immutable. Two sets share the `Arc` of an endpoint that did not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: EndpointAddress,
    /// `additional_addresses`: other ways to the same endpoint, tried as RFC 8305 says.
    pub more: Option<Arc<[SocketAddr]>>,
    /// `Endpoint.hostname`, or the DNS name that the address came from.
    pub hostname: Option<Arc<str>>,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
    /// `health_status`
    pub health: Health,
    /// The locality that it stands in.
    pub locality: Arc<Locality>,
    /// `filter_metadata["envoy.transport_socket_match"]`, strings only.
    pub socket_labels: BTreeMap<String, String>,
    /// `filter_metadata["envoy.lb"]["hash_key"]`, for consistent hashing.
    pub hash_key: Option<String>,
    /// `filter_metadata["envoy.lb"]`, for subsets and retries.
    pub labels: Option<Arc<Labels>>,
    /// `filter_metadata["istio"]["workload"]`, for Istio's statistics.
    pub workload: Option<Arc<str>>,
    /// `health_check_config`
    pub check: Option<Box<EndpointCheck>>,
    /// The transport socket, chosen by [`Self::socket_labels`] when compiled.
    pub transport: TransportChoice,
}

impl Endpoint {
    /// Whether it is a canary (`envoy.lb`, `canary`).
    #[must_use]
    pub fn is_canary(&self) -> bool {
        let labels = self.labels.as_ref();
        labels.and_then(|labels| labels.get("canary")).is_some_and(|canary| canary == "true")
    }

    /// A healthy endpoint of weight 1 that nothing else is known of.
    #[must_use]
    pub fn at(address: EndpointAddress) -> Self {
        Self {
            address,
            more: None,
            hostname: None,
            weight: 1,
            health: Health::Healthy,
            locality: Arc::default(),
            socket_labels: BTreeMap::new(),
            hash_key: None,
            labels: None,
            workload: None,
            check: None,
            transport: TransportChoice::default(),
        }
    }
}

/// The endpoints of one priority.
#[derive(Clone, Debug, Default)]
pub struct Priority {
    /// All endpoints, whatever their health.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// `LocalityLbEndpoints.load_balancing_weight`, of the localities that have one.
    pub weights: BTreeMap<Arc<Locality>, u32>,
}

/// All endpoints of a cluster; replaced as a whole.
#[derive(Clone, Debug, Default)]
pub struct EndpointSet {
    /// Priorities from the highest (0) down.
    pub priorities: Vec<Priority>,
    /// `ClusterLoadAssignment.policy.overprovisioning_factor`, per cent (Envoy's default: 140).
    pub overprovisioning_factor: u32,
    /// `ClusterLoadAssignment.policy.drop_overloads`: the part of the requests that is refused.
    pub drop: Option<Fraction>,
}

impl EndpointSet {
    /// All endpoints of all priorities.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.priorities.iter().flat_map(|priority| &priority.endpoints)
    }
}
