//! The action of a route that leads to upstreams.

use weft_control_model::{
    Algorithm, HashOn, PassHost, Scheme, Targets as NodesOrRegistry, Timeout, Upstream,
};
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::config::route::v3::{
    RetryPolicy, RouteAction, WeightedCluster,
    retry_policy::{RetryHostPredicate, retry_host_predicate},
    route_action::{
        ClusterSpecifier, HashPolicy, HostRewriteSpecifier, RequestMirrorPolicy, UpgradeConfig,
        hash_policy::{ConnectionProperties, Cookie, Header, PolicySpecifier, QueryParameter},
    },
    weighted_cluster::{ClusterWeight, cluster_weight},
};
use weft_xds_proto::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;

use crate::envoy::{self, duration, flag, number, unlimited};
use crate::problem::Unsupported;
use crate::targets::Target;

/// APISIX retries when no answer came, and never by status.
const RETRY_ON: &str = "connect-failure,refused-stream,reset-before-request";
/// Retries toward a registry's endpoints, whose number may change without the route.
const REGISTRY_RETRIES: u32 = 2;

/// A target with its share of the requests.
pub(super) type Share = (Target, u32);

/// What of a route holds for all its targets.
pub(super) struct Forwarding {
    /// The route's own timeout.
    pub(super) timeout: Option<Timeout>,
    pub(super) websocket: bool,
    pub(super) rewrite: super::rewrite::Rewrite,
    pub(super) mirrors: Vec<RequestMirrorPolicy>,
}

impl Forwarding {
    pub(super) fn action(&self, shares: &[Share]) -> Result<RouteAction, Unsupported> {
        let host = self.host(shares)?;
        let per_share = matches!(host, Host::PerShare);
        Ok(RouteAction {
            regex_rewrite: self.rewrite.path.clone(),
            timeout: Some(unlimited()),
            idle_timeout: Some(duration(self.silence(shares))),
            retry_policy: retry_policy(shares),
            request_mirror_policies: self.mirrors.clone(),
            hash_policy: hash_policies(shares)?,
            upgrade_configs: self.upgrades(),
            cluster_specifier: Some(clusters(shares, per_share)),
            host_rewrite_specifier: match host {
                Host::Kept | Host::PerShare => None,
                Host::Node => Some(HostRewriteSpecifier::AutoHostRewrite(flag(true))),
                Host::Fixed(host) => Some(HostRewriteSpecifier::HostRewriteLiteral(host)),
            },
            ..Default::default()
        })
    }

    /// How long the exchange may be silent: nginx's `send` and `read` are times between two
    /// operations, which is what Envoy's idle timeout of a stream is.
    fn silence(&self, shares: &[Share]) -> std::time::Duration {
        let of_upstreams = shares.iter().map(|(target, _)| target.upstream.timeout);
        let timeouts = self
            .timeout
            .map_or_else(|| of_upstreams.map(Option::unwrap_or_default).collect(), |own| vec![own]);
        let longest = timeouts.iter().map(|timeout| timeout.send.max(timeout.read)).max();
        longest.unwrap_or_else(|| Timeout::default().read)
    }

    fn upgrades(&self) -> Vec<UpgradeConfig> {
        let websocket = UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            enabled: Some(flag(true)),
            ..Default::default()
        };
        if self.websocket { vec![websocket] } else { Vec::new() }
    }

    fn host(&self, shares: &[Share]) -> Result<Host, Unsupported> {
        if let Some(host) = &self.rewrite.host {
            return Ok(Host::Fixed(host.clone()));
        }
        let modes: Vec<_> = shares.iter().map(|(target, _)| &target.upstream.pass_host).collect();
        let Some((&first, rest)) = modes.split_first() else { return Ok(Host::Kept) };
        if rest.iter().all(|mode| *mode == first) {
            return Ok(match first {
                PassHost::Pass => Host::Kept,
                PassHost::Node => Host::Node,
                PassHost::Rewrite(host) => Host::Fixed(host.clone()),
            });
        }
        if modes.contains(&&PassHost::Node) {
            let reason = "upstreams that share a route's requests must all pass their node's \
                          host, or none";
            return Err(Unsupported::new("pass_host", reason));
        }
        Ok(Host::PerShare)
    }
}

/// The host that upstreams are told.
enum Host {
    Kept,
    Node,
    Fixed(String),
    PerShare,
}

fn clusters(shares: &[Share], host_per_share: bool) -> ClusterSpecifier {
    if let ([(target, _)], false) = (shares, host_per_share) {
        return ClusterSpecifier::Cluster(target.cluster.clone());
    }
    let weighted = shares.iter().map(|(target, weight)| ClusterWeight {
        name: target.cluster.clone(),
        weight: Some(number(*weight)),
        host_rewrite_specifier: match &target.upstream.pass_host {
            PassHost::Rewrite(host) if host_per_share => {
                Some(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host.clone()))
            }
            _ => None,
        },
        ..Default::default()
    });
    ClusterSpecifier::WeightedClusters(WeightedCluster {
        clusters: weighted.collect(),
        ..Default::default()
    })
}

fn retry_policy(shares: &[Share]) -> Option<RetryPolicy> {
    let retries = shares.iter().map(|(target, _)| retries(&target.upstream)).max()?;
    if retries == 0 {
        return None;
    }
    let hashed = shares.iter().any(|(target, _)| hash_on(&target.upstream).is_some());
    // A hashed request stays with its node.
    let elsewhere = (!hashed).then(|| RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(pack(
            &PreviousHostsPredicate {},
        ))),
    });
    Some(RetryPolicy {
        retry_on: RETRY_ON.to_owned(),
        num_retries: Some(number(retries)),
        host_selection_retry_max_attempts: if elsewhere.is_some() { 5 } else { 0 },
        retry_host_predicate: elsewhere.into_iter().collect(),
        ..Default::default()
    })
}

fn retries(upstream: &Upstream) -> u32 {
    upstream.retries.unwrap_or_else(|| match &upstream.targets {
        NodesOrRegistry::Nodes(nodes) => {
            u32::try_from(nodes.len().saturating_sub(1)).unwrap_or(u32::MAX)
        }
        NodesOrRegistry::Discovery(_) => REGISTRY_RETRIES,
    })
}

fn hash_on(upstream: &Upstream) -> Option<&HashOn> {
    match &upstream.algorithm {
        Algorithm::ConsistentHash(hash_on) => Some(hash_on),
        _ => None,
    }
}

fn hash_policies(shares: &[Share]) -> Result<Vec<HashPolicy>, Unsupported> {
    let Some(hash_on) = shares.iter().find_map(|(target, _)| hash_on(&target.upstream)) else {
        return Ok(Vec::new());
    };
    let mut policies = match hash_on {
        HashOn::Header(name) => vec![header(name)],
        HashOn::Cookie(name) => vec![cookie(name)],
        HashOn::Variable(name) => vec![variable(name)?],
        HashOn::Combination(text) => combination(text)?,
        // The plugins that authenticate tell upstreams the consumer in this header.
        HashOn::Consumer => vec![header("x-consumer-username")],
    };
    // Without a value, the client's address decides, as in APISIX.
    if let [only] = policies.as_mut_slice() {
        only.terminal = true;
        policies.push(source_ip());
    }
    Ok(policies)
}

fn policy(specifier: PolicySpecifier) -> HashPolicy {
    HashPolicy { policy_specifier: Some(specifier), ..Default::default() }
}

fn header(name: &str) -> HashPolicy {
    let header_name = name.to_ascii_lowercase();
    policy(PolicySpecifier::Header(Header { header_name, ..Default::default() }))
}

fn cookie(name: &str) -> HashPolicy {
    policy(PolicySpecifier::Cookie(Cookie { name: name.to_owned(), ..Default::default() }))
}

fn source_ip() -> HashPolicy {
    policy(PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }))
}

fn variable(name: &str) -> Result<HashPolicy, Unsupported> {
    if let Some(name) = name.strip_prefix("arg_") {
        let name = name.to_owned();
        return Ok(policy(PolicySpecifier::QueryParameter(QueryParameter { name })));
    }
    if let Some(name) = name.strip_prefix("cookie_") {
        return Ok(cookie(name));
    }
    if let Some(name) = name.strip_prefix("http_") {
        return Ok(header(&name.replace('_', "-")));
    }
    Ok(match name {
        "remote_addr" => source_ip(),
        "request_uri" => header(":path"),
        "uri" => policy(PolicySpecifier::Header(Header {
            header_name: ":path".to_owned(),
            regex_rewrite: Some(envoy::substitution("\\?.*$", "")),
        })),
        "query_string" => policy(PolicySpecifier::Header(Header {
            header_name: ":path".to_owned(),
            regex_rewrite: Some(envoy::substitution("^[^?]*\\??", "")),
        })),
        "host" | "hostname" | "server_name" => header(":authority"),
        _ => {
            let reason = format!("a proxy can't hash {name}");
            return Err(Unsupported::new("key", reason));
        }
    })
}

/// `$host$remote_addr`: the hashes of all variables are combined.
fn combination(text: &str) -> Result<Vec<HashPolicy>, Unsupported> {
    let names = text.split('$').map(|part| part.trim_matches(|c| c == '{' || c == '}'));
    names.filter(|name| !name.is_empty()).map(variable).collect()
}

/// Whether a proxy can carry requests to this upstream.
pub(crate) fn carries_http(upstream: &Upstream) -> bool {
    matches!(upstream.scheme, Scheme::Http | Scheme::Https | Scheme::Grpc | Scheme::Grpcs)
}
