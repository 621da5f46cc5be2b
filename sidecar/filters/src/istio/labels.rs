//! The standard labels, in Istio's order.

use std::sync::Arc;

use weft_telemetry::{ClusterFacts, Labels, LogRecord, MeshService};

use super::peer::Peer;
use super::{Facts, Reporter, Stats};

const UNKNOWN: &str = "unknown";
/// `canonical_revision` of those that do not say it.
const LATEST: &str = "latest";

/// Clusters that stand for themselves.
const SPECIAL: [&str; 5] = [
    "BlackHoleCluster",
    "PassthroughCluster",
    "InboundPassthroughCluster",
    "InboundPassthroughClusterIpv4",
    "InboundPassthroughClusterIpv6",
];

/// The names of the standard labels.
pub(super) const STANDARD: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

/// How many of them say who calls whom.
pub(super) const OF_PEERS: usize = 20;

/// What is asked for.
struct Service {
    host: String,
    name: String,
    namespace: String,
}

impl Stats {
    /// The labels of a request (`http`) or a connection.
    pub(super) fn labels(&self, facts: &Facts<'_>, record: &LogRecord<'_>, http: bool) -> Labels {
        let peer = self.peer(facts, record.clusters);
        let service = service(facts, record.clusters);
        let [peer_principal, own_principal] = facts.principals;
        let of_peer = namespace_of(peer_principal).unwrap_or(&peer.namespace);
        let mut labels = Writer { labels: Labels::with_capacity(STANDARD.len()) };
        labels.next(match self.reporter {
            Reporter::Client => "source",
            Reporter::Server => "destination",
            Reporter::Gateway => "waypoint",
        });
        match self.reporter {
            Reporter::Client => {
                labels.source(&self.own, &self.own.namespace, own_principal);
                labels.destination(&peer, of_peer, peer_principal, &service, UNKNOWN);
            }
            Reporter::Server => {
                labels.source(&peer, of_peer, peer_principal);
                let own = &self.own;
                labels.destination(
                    own,
                    &own.namespace,
                    own_principal,
                    &service,
                    &own.canonical_name,
                );
            }
            Reporter::Gateway => {
                labels.source(&peer, of_peer, peer_principal);
                let to = facts
                    .endpoint
                    .and_then(|endpoint| record.clusters?.workload(facts.cluster, endpoint));
                let to = to.map_or_else(Peer::default, |text| Peer::of_endpoint(&text));
                labels.destination(&to, &to.namespace, "", &service, &to.canonical_name);
            }
        }
        let secure = match self.reporter {
            Reporter::Client => UNKNOWN,
            _ if !peer_principal.is_empty() && !own_principal.is_empty() => "mutual_tls",
            _ => "none",
        };
        labels.protocol(facts, http, secure);
        labels.labels
    }

    fn peer(&self, facts: &Facts<'_>, clusters: Option<&dyn ClusterFacts>) -> Peer {
        if let Some(peer) = Peer::decode(facts.peer).filter(|_| !facts.peer.is_empty()) {
            return peer;
        }
        let endpoint = facts.endpoint.filter(|_| self.reporter == Reporter::Client);
        let said = endpoint.and_then(|endpoint| clusters?.workload(facts.cluster, endpoint));
        said.map_or_else(Peer::default, |said| Peer::of_endpoint(&said))
    }
}

struct Writer {
    labels: Labels,
}

impl Writer {
    /// The value of the next standard label.
    fn next(&mut self, value: &str) {
        self.named(STANDARD[self.labels.len()], value);
    }

    fn named(&mut self, name: &str, value: &str) {
        self.labels.push((name.into(), value.into()));
    }

    fn source(&mut self, peer: &Peer, namespace: &str, principal: &str) {
        self.next(or(&peer.workload, UNKNOWN));
        self.next(or(&peer.canonical_name, UNKNOWN));
        self.next(or(&peer.canonical_revision, LATEST));
        self.next(or(namespace, UNKNOWN));
        self.next(or(principal, UNKNOWN));
        self.next(or(&peer.app, UNKNOWN));
        self.next(or(&peer.version, UNKNOWN));
        self.next(or(&peer.cluster, UNKNOWN));
    }

    fn destination(
        &mut self,
        peer: &Peer,
        namespace: &str,
        principal: &str,
        service: &Service,
        otherwise: &str,
    ) {
        let otherwise = or(otherwise, UNKNOWN);
        self.next(or(&peer.workload, UNKNOWN));
        self.next(or(namespace, UNKNOWN));
        self.next(or(principal, UNKNOWN));
        self.next(or(&peer.app, UNKNOWN));
        self.next(or(&peer.version, UNKNOWN));
        self.next(or(&service.host, otherwise));
        self.next(or(&peer.canonical_name, UNKNOWN));
        self.next(or(&peer.canonical_revision, LATEST));
        self.next(or(&service.name, otherwise));
        self.next(or(&service.namespace, or(namespace, UNKNOWN)));
        self.next(or(&peer.cluster, UNKNOWN));
    }

    fn protocol(&mut self, facts: &Facts<'_>, http: bool, secure: &str) {
        let [protocol, code, status, flags, policy] =
            <[&str; 5]>::try_from(&STANDARD[OF_PEERS..]).unwrap_or_default();
        if http {
            self.named(protocol, if facts.grpc.is_some() { "grpc" } else { "http" });
            self.named(code, &facts.status.to_string());
            let said = facts.grpc.flatten().map(|status| status.to_string());
            self.named(status, &said.unwrap_or_default());
        } else {
            self.named(protocol, "tcp");
        }
        self.named(flags, &facts.flags.to_string());
        self.named(policy, secure);
    }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// The service that was asked for: what the cluster says, else the host, else nothing.
fn service(facts: &Facts<'_>, clusters: Option<&dyn ClusterFacts>) -> Service {
    let by_host = |name: &str| Service {
        host: facts.host.to_owned(),
        name: name.to_owned(),
        namespace: String::new(),
    };
    match facts.route {
        "block_all" => return by_host(SPECIAL[0]),
        "allow_any" => return by_host(SPECIAL[1]),
        _ => {}
    }
    if SPECIAL.contains(&facts.cluster) {
        return by_host(facts.cluster);
    }
    let known: Option<Arc<MeshService>> = clusters.and_then(|all| all.service(facts.cluster));
    known.map_or_else(
        || by_host(facts.host),
        |known| Service {
            host: known.host.clone(),
            name: known.name.clone(),
            namespace: known.namespace.clone(),
        },
    )
}

/// The namespace in a SPIFFE identity.
fn namespace_of(principal: &str) -> Option<&str> {
    let (_, rest) = principal.split_once("/ns/")?;
    rest.split('/').next().filter(|namespace| !namespace.is_empty())
}
