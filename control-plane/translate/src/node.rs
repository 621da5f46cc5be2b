//! What of a node decides what it is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_control_model::{
    Labels, MtlsMode, ResourceId, Resources, Role, Workload, WorkloadPort, effective_authorization,
    effective_mtls,
};
use weft_xds_proto::pb::envoy::config::core::v3::Address;
use weft_xds_proto::pb::envoy::config::listener::v3::AdditionalAddress;

use crate::envoy;

/// The families of addresses that a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

impl Families {
    pub(crate) fn of(addresses: impl Iterator<Item = IpAddr>) -> Self {
        let mut families = Self { v4: false, v6: false };
        for address in addresses {
            families.v4 |= address.is_ipv4();
            families.v6 |= address.is_ipv6();
        }
        // A node that names no address is taken for one of IPv4.
        families.v4 |= !families.v6;
        families
    }

    /// The address for everyone, and what is listened on beside it.
    pub(crate) fn wildcard(self, port: u16) -> (Option<Address>, Vec<AdditionalAddress>) {
        let v4 = envoy::address(Ipv4Addr::UNSPECIFIED.into(), port);
        let v6 = envoy::address(Ipv6Addr::UNSPECIFIED.into(), port);
        match (self.v4, self.v6) {
            (true, true) => {
                let further = AdditionalAddress { address: Some(v6), ..Default::default() };
                (Some(v4), vec![further])
            }
            (false, true) => (Some(v6), Vec::new()),
            _ => (Some(v4), Vec::new()),
        }
    }
}

/// What is spoken on a port of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PortKind {
    Http,
    Http2,
    Tcp,
    /// To be found out from the first bytes.
    Auto,
}

impl PortKind {
    /// Istio's reading of a port's protocol.
    fn of(protocol: &str) -> Self {
        match protocol.to_ascii_lowercase().as_str() {
            "http" | "http1" | "http_proxy" => Self::Http,
            "http2" | "grpc" | "grpc-web" => Self::Http2,
            "tcp" | "tls" | "https" | "mongo" | "mysql" | "redis" => Self::Tcp,
            _ => Self::Auto,
        }
    }
}

/// A port of the workload with who may call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct InboundPort {
    pub(crate) port: u16,
    pub(crate) kind: PortKind,
    pub(crate) mtls: Mtls,
}

/// [`MtlsMode`] without the mode that inherits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Mtls {
    Disable,
    Permissive,
    Strict,
}

impl From<MtlsMode> for Mtls {
    fn from(mode: MtlsMode) -> Self {
        match mode {
            MtlsMode::Disable => Self::Disable,
            MtlsMode::Strict => Self::Strict,
            MtlsMode::Permissive | MtlsMode::Unset => Self::Permissive,
        }
    }
}

/// How a sidecar learns of the mesh's services.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum ServiceDiscovery {
    /// It is sent all of them.
    #[default]
    Everything,
    /// It asks for what is called; the hosts that are named here it is sent from the start.
    OnDemand(Vec<String>),
}

/// What of a node decides what it is sent. Equal profiles are sent the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeProfile {
    edge: bool,
    families: Families,
    namespace: String,
    labels: Labels,
    ports: Vec<(u16, PortKind)>,
    trusted: bool,
    discovery: ServiceDiscovery,
    answers_dns: bool,
}

impl NodeProfile {
    /// The profile of a workload's node. Only one that is `trusted` is sent private keys.
    pub fn new(workload: &Workload, trusted: bool) -> Self {
        let kind = |port: &WorkloadPort| (port.target_port, PortKind::of(&port.protocol));
        let mut ports: Vec<_> = workload.ports.iter().map(kind).collect();
        ports.sort_unstable();
        ports.dedup_by_key(|(port, _)| *port);
        Self {
            edge: workload.role == Role::Edge,
            families: Families::of(workload.addresses.iter().map(|address| address.0)),
            namespace: workload.namespace.clone(),
            labels: workload.labels.clone(),
            ports,
            trusted,
            discovery: ServiceDiscovery::Everything,
            answers_dns: false,
        }
    }

    /// The profile of one that learns of services in this way.
    #[must_use]
    pub fn discovering(self, discovery: ServiceDiscovery) -> Self {
        Self { discovery, ..self }
    }

    /// The profile of one that answers DNS queries, or does not.
    #[must_use]
    pub fn answering_dns(self, answers_dns: bool) -> Self {
        Self { answers_dns, ..self }
    }

    pub(crate) fn answers_dns(&self) -> bool {
        self.answers_dns
    }

    /// Whether it is sent every virtual host by name alone.
    pub fn asks_for_hosts(&self) -> bool {
        !self.edge && self.on_demand().is_some_and(<[String]>::is_empty)
    }

    /// The hosts that it is sent from the start, if others are only sent on demand.
    pub(crate) fn on_demand(&self) -> Option<&[String]> {
        match &self.discovery {
            ServiceDiscovery::Everything => None,
            ServiceDiscovery::OnDemand(hosts) => Some(hosts),
        }
    }

    pub(crate) fn is_edge(&self) -> bool {
        self.edge
    }

    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }

    pub(crate) fn families(&self) -> Families {
        self.families
    }

    /// Who may call this node, under the policies that are.
    pub(crate) fn inbound(&self, resources: &Resources) -> Inbound {
        let mtls = effective_mtls(
            resources.peer_authentications.iter(),
            &resources.mesh.root_namespace,
            &self.namespace,
            &self.labels,
        );
        let ports = self.ports.iter().map(|&(port, kind)| InboundPort {
            port,
            kind,
            mtls: mtls.for_port(port).into(),
        });
        let authorization = effective_authorization(
            resources.authorization_policies.iter(),
            &resources.mesh.root_namespace,
            &self.namespace,
            &self.labels,
        );
        Inbound {
            ports: ports.collect(),
            others: mtls.mode.into(),
            families: self.families,
            authorization: authorization.into_iter().map(|policy| policy.id.clone()).collect(),
        }
    }
}

/// How a workload is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Inbound {
    pub(crate) ports: Vec<InboundPort>,
    /// For ports that the workload doesn't tell.
    pub(crate) others: Mtls,
    pub(crate) families: Families,
    /// The policies that say who may do what.
    pub(crate) authorization: Vec<ResourceId>,
}

/// What of a workload decides the clusters of its own ports.
pub(crate) type InboundKinds = (Vec<(u16, PortKind)>, Families);

impl Inbound {
    pub(crate) fn kinds(&self) -> InboundKinds {
        (self.ports.iter().map(|port| (port.port, port.kind)).collect(), self.families)
    }
}
