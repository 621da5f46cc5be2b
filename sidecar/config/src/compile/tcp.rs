//! The TCP proxy.

use std::sync::Arc;
use std::time::Duration;

use weft_filters::config::{
    FieldError, Within, header_mutations, header_template, limit, opt_duration,
};
use weft_model::{
    ClusterChoice, HashPolicy, HashSource, HeaderMutations, OnDemandClusters, TcpProxy, Tunneling,
    WeightedCluster, WeightedClusters,
};
use weft_telemetry::TcpStats;
use weft_xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy as PbTcp,
    tcp_proxy::{ClusterSpecifier, OnDemand, TunnelingConfig, WeightedCluster as PbWeighted},
};
use weft_xds_proto::pb::envoy::r#type::v3::{HashPolicy as PbHash, hash_policy::PolicySpecifier};

use super::access_log::access_logs;
use super::source::over_ads;
use super::{Cx, endpoint};

/// `idle_timeout` when it is not set.
const IDLE: Duration = Duration::from_secs(3600);
/// `on_demand.timeout` when it is not set.
const ON_DEMAND: Duration = Duration::from_secs(5);

/// Compiles a TCP proxy.
pub(super) fn tcp_proxy(cx: &mut Cx<'_>, config: &PbTcp) -> Result<TcpProxy, FieldError> {
    if config.stat_prefix.is_empty() {
        return Err(FieldError::missing("stat_prefix"));
    }
    if config.upstream_connect_mode != 0 {
        return Err(FieldError::unsupported("upstream_connect_mode"));
    }
    let clusters = match &config.cluster_specifier {
        None => return Err(FieldError::missing("cluster")),
        Some(ClusterSpecifier::Cluster(name)) if name.is_empty() => {
            return Err(FieldError::missing("cluster"));
        }
        Some(ClusterSpecifier::Cluster(name)) => ClusterChoice::One(cx.names.cluster(name)),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            ClusterChoice::Weighted(weighted_clusters(cx, weighted).within("weighted_clusters")?)
        }
    };
    let mut hash = Vec::new();
    for (index, policy) in config.hash_policy.iter().enumerate() {
        hash.push(hash_policy(policy).within_item("hash_policy", index)?);
    }
    let max_duration = config.max_downstream_connection_duration.as_ref();
    let on_demand = config.on_demand.as_ref().map(|config| on_demand(cx, config));
    let tunnel = config.tunneling_config.as_ref().map(tunneling);
    Ok(TcpProxy {
        clusters,
        on_demand: on_demand.transpose().within("on_demand")?,
        idle_timeout: limit(config.idle_timeout.as_ref(), "idle_timeout", Some(IDLE))?,
        max_connect_attempts: config.max_connect_attempts.as_ref().map_or(1, |n| n.value.max(1)),
        max_duration: opt_duration(max_duration, "max_downstream_connection_duration")?,
        hash,
        labels: endpoint::required(config.metadata_match.as_ref(), None),
        tunnel: tunnel.transpose().within("tunneling_config")?.map(Box::new),
        access_logs: access_logs(Some(cx), &config.access_log, "access_log")?,
        stats: TcpStats::new(cx.registry, config.stat_prefix.trim_end_matches(';')),
    })
}

fn tunneling(config: &TunnelingConfig) -> Result<Tunneling, FieldError> {
    let refused = [
        (config.propagate_response_headers, "propagate_response_headers"),
        (config.propagate_response_trailers, "propagate_response_trailers"),
        (config.request_id_extension.is_some(), "request_id_extension"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    if config.hostname.is_empty() {
        return Err(FieldError::missing("hostname"));
    }
    let post = match (config.use_post, config.post_path.as_str()) {
        (false, "") => None,
        (false, _) => return Err(FieldError::at("post_path", "is there for use_post only")),
        (true, "") => Some("/".to_owned()),
        (true, path) if path.starts_with('/') => Some(path.to_owned()),
        (true, path) => return Err(FieldError::at("post_path", format!("{path:?} is not a path"))),
    };
    Ok(Tunneling {
        hostname: header_template(&config.hostname).within("hostname")?,
        post,
        headers: header_mutations(&config.headers_to_add, &[], "request")?,
    })
}

fn on_demand(cx: &Cx<'_>, config: &OnDemand) -> Result<OnDemandClusters, FieldError> {
    if !config.resources_locator.is_empty() {
        return Err(FieldError::unsupported("resources_locator"));
    }
    over_ads(config.odcds_config.as_ref()).within("odcds_config")?;
    let timeout = opt_duration(config.timeout.as_ref(), "timeout")?;
    let timeout = timeout.filter(|time| !time.is_zero()).unwrap_or(ON_DEMAND);
    Ok(OnDemandClusters { demand: Arc::clone(cx.demand), timeout })
}

fn weighted_clusters(cx: &mut Cx<'_>, config: &PbWeighted) -> Result<WeightedClusters, FieldError> {
    let mut clusters = Vec::with_capacity(config.clusters.len());
    let mut total = 0u32;
    for (index, cluster) in config.clusters.iter().enumerate() {
        if cluster.name.is_empty() {
            return Err(FieldError::missing("name")).within_item("clusters", index);
        }
        if cluster.metadata_match.is_some() {
            let error = FieldError::unsupported("metadata_match");
            return Err(error).within_item("clusters", index);
        }
        total = total.checked_add(cluster.weight).ok_or_else(|| {
            FieldError::at("clusters", "the sum of the weights is above 4294967295")
        })?;
        if cluster.weight > 0 {
            clusters.push(WeightedCluster {
                cluster: cx.names.cluster(&cluster.name),
                weight: cluster.weight,
                request_headers: HeaderMutations::default(),
                response_headers: HeaderMutations::default(),
                host_rewrite: None,
                labels: None,
            });
        }
    }
    if total == 0 {
        return Err(FieldError::at("clusters", "the weights have to sum up to more than zero"));
    }
    Ok(WeightedClusters { clusters, total })
}

fn hash_policy(policy: &PbHash) -> Result<HashPolicy, FieldError> {
    match &policy.policy_specifier {
        Some(PolicySpecifier::SourceIp(_)) => {
            Ok(HashPolicy { source: HashSource::SourceIp, terminal: false })
        }
        Some(PolicySpecifier::FilterState(_)) => Err(FieldError::unsupported("filter_state")),
        None => Err(FieldError::missing("source_ip")),
    }
}
