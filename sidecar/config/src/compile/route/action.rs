//! Forwarding.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use weft_filters::config::{
    FieldError, Within, decode, header_mutations, header_name, limit, opt_duration,
    regex_substitution, runtime_fraction, template_rewrite,
};
use weft_model::{
    ClusterChoice, Forward, HashPolicy, HashSource, HostRewrite, Labels, Mirror, PathRewrite,
    WeightedCluster, WeightedClusters,
};
use weft_route::{HeaderField, PathMatch};
use weft_xds_proto::pb::envoy::config::core::v3::{RoutingPriority, TypedExtensionConfig};
use weft_xds_proto::pb::envoy::config::route::v3::{
    RouteAction, WeightedCluster as PbWeighted,
    route_action::{
        ClusterNotFoundResponseCode, ClusterSpecifier, HashPolicy as PbHash, HostRewriteSpecifier,
        RequestMirrorPolicy, UpgradeConfig, hash_policy::PolicySpecifier,
    },
    weighted_cluster::{ClusterWeight, cluster_weight::HostRewriteSpecifier as WeightHost},
};
use weft_xds_proto::pb::envoy::extensions::path::rewrite::uri_template::v3::UriTemplateRewriteConfig;

use super::internal_redirect::internal_redirect;
use super::redirect::{prefix_rewrite, regex_rewrite};
use super::{Inherited, retry};
use crate::compile::{Cx, endpoint};

/// The upgrade type of RFC 9298, which would need UDP.
const CONNECT_UDP: &str = "CONNECT-UDP";
/// `timeout` when it is not set.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Compiles a `RouteAction` of a route that matches `path`.
pub(super) fn forward(
    cx: &mut Cx<'_>,
    config: &RouteAction,
    path: &PathMatch,
    inherited: &Inherited<'_>,
) -> Result<Forward, FieldError> {
    refuse(config)?;
    let own = config.retry_policy.as_ref();
    let retry = match own.or(inherited.host.retry_policy.as_ref()) {
        None => None,
        Some(policy) => Some(Arc::new(retry::retry(policy).within("retry_policy")?)),
    };
    let mirrors = match config.request_mirror_policies.as_slice() {
        [] => inherited.mirrors(),
        own => own,
    };
    let idle = config.idle_timeout.as_ref();
    let idle = idle.map(|idle| limit(Some(idle), "idle_timeout", None)).transpose()?;
    let Durations { timeout, max_stream_duration, grpc_duration_max, grpc_timeout_max } =
        durations(config)?;
    let labels = endpoint::required(config.metadata_match.as_ref(), None);
    Ok(Forward {
        clusters: clusters(cx, config.cluster_specifier.as_ref(), labels.as_deref())?,
        cluster_not_found: not_found(config.cluster_not_found_response_code),
        path: path_rewrite(config, path)?,
        host: host_rewrite(config.host_rewrite_specifier.as_ref())?,
        append_x_forwarded_host: config.append_x_forwarded_host,
        timeout,
        idle_timeout: idle,
        max_stream_duration,
        grpc_duration_max,
        grpc_timeout_max,
        retry,
        mirrors: all(mirrors, "request_mirror_policies", |mirror| mirror_of(cx, mirror))?,
        hash: all(&config.hash_policy, "hash_policy", hash_policy)?,
        upgrades: all(&config.upgrade_configs, "upgrade_configs", upgrade)?,
        internal_redirect: internal_redirect(config)?,
        terminates: config.upgrade_configs.iter().any(|one| one.connect_config.is_some()),
        high_priority: config.priority == RoutingPriority::High as i32,
        labels,
    })
}

#[expect(deprecated, reason = "the older fields have to be refused by name")]
fn refuse(config: &RouteAction) -> Result<(), FieldError> {
    let refused = [
        (!config.path_rewrite.is_empty(), "path_rewrite"),
        (config.retry_policy_typed_config.is_some(), "retry_policy_typed_config"),
        (config.cors.is_some(), "cors"),
        (config.grpc_timeout_offset.is_some(), "grpc_timeout_offset"),
        (config.hedge_policy.is_some(), "hedge_policy"),
    ];
    match refused.iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(FieldError::unsupported(field)),
        None => Ok(()),
    }
}

/// A type of upgrade in upper case, and whether it is allowed.
fn upgrade(config: &UpgradeConfig) -> Result<(String, bool), FieldError> {
    let kind = config.upgrade_type.to_ascii_uppercase();
    let enabled = config.enabled.as_ref().is_none_or(|flag| flag.value);
    if kind == CONNECT_UDP && enabled {
        return Err(FieldError::at("upgrade_type", "CONNECT-UDP is not supported"));
    }
    if let Some(connect) = &config.connect_config {
        if kind != "CONNECT" {
            return Err(FieldError::at("connect_config", "belongs to the upgrade type CONNECT"));
        }
        let refused = [
            (connect.proxy_protocol_config.is_some(), "proxy_protocol_config"),
            (connect.allow_post, "allow_post"),
        ];
        if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
            return Err(FieldError::unsupported(field).within("connect_config"));
        }
    }
    Ok((kind, enabled))
}

/// Compiles each item of the list `field`.
fn all<T, U>(
    items: &[T],
    field: &str,
    mut compile: impl FnMut(&T) -> Result<U, FieldError>,
) -> Result<Vec<U>, FieldError> {
    let each = items.iter().enumerate();
    each.map(|(index, item)| compile(item).within_item(field, index)).collect()
}

fn not_found(code: i32) -> StatusCode {
    match ClusterNotFoundResponseCode::try_from(code) {
        Ok(ClusterNotFoundResponseCode::NotFound) => StatusCode::NOT_FOUND,
        Ok(ClusterNotFoundResponseCode::InternalServerError) => StatusCode::INTERNAL_SERVER_ERROR,
        Ok(ClusterNotFoundResponseCode::ServiceUnavailable) | Err(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// The limits of a route, as [`Forward`] has them.
#[derive(Default)]
struct Durations {
    timeout: Option<Duration>,
    max_stream_duration: Option<Duration>,
    grpc_duration_max: Option<Duration>,
    grpc_timeout_max: Option<Duration>,
}

/// Where `max_stream_duration` is given, Envoy does without the older limits.
#[expect(deprecated, reason = "Istio sends max_grpc_timeout on purpose")]
fn durations(config: &RouteAction) -> Result<Durations, FieldError> {
    let timeout = limit(config.timeout.as_ref(), "timeout", Some(TIMEOUT))?;
    let grpc_timeout_max = opt_duration(config.max_grpc_timeout.as_ref(), "max_grpc_timeout")?;
    let Some(limits) = &config.max_stream_duration else {
        return Ok(Durations { timeout, grpc_timeout_max, ..Durations::default() });
    };
    if limits.grpc_timeout_header_offset.is_some() {
        let error = FieldError::unsupported("grpc_timeout_header_offset");
        return Err(error.within("max_stream_duration"));
    }
    let max = limit(limits.max_stream_duration.as_ref(), "max_stream_duration", None);
    let header = limits.grpc_timeout_header_max.as_ref();
    let header = opt_duration(header, "grpc_timeout_header_max");
    Ok(Durations {
        max_stream_duration: max.within("max_stream_duration")?,
        grpc_duration_max: header.within("max_stream_duration")?,
        ..Durations::default()
    })
}

fn path_rewrite(config: &RouteAction, path: &PathMatch) -> Result<PathRewrite, FieldError> {
    if let Some(policy) = &config.path_rewrite_policy {
        return template_of(policy, path).within("path_rewrite_policy");
    }
    match (&config.regex_rewrite, config.prefix_rewrite.as_str()) {
        (None, "") => Ok(PathRewrite::Keep),
        (None, with) => Ok(prefix_rewrite(path, with)),
        (Some(rewrite), "") => regex_rewrite(rewrite).within("regex_rewrite"),
        (Some(_), _) => {
            Err(FieldError::at("regex_rewrite", "can't be combined with prefix_rewrite"))
        }
    }
}

fn template_of(config: &TypedExtensionConfig, path: &PathMatch) -> Result<PathRewrite, FieldError> {
    let any = config.typed_config.as_ref().ok_or_else(|| FieldError::missing("typed_config"))?;
    let config: UriTemplateRewriteConfig = decode(any).within("typed_config")?;
    let PathMatch::Regex(pattern) = path else {
        return Err(FieldError::new("needs a path_match_policy"));
    };
    let rewrite = template_rewrite(&config.path_template_rewrite, pattern);
    let substitution = rewrite.within("path_template_rewrite").within("typed_config")?;
    Ok(PathRewrite::Regex { pattern: pattern.clone(), substitution })
}

fn host_rewrite(config: Option<&HostRewriteSpecifier>) -> Result<HostRewrite, FieldError> {
    use HostRewriteSpecifier as Spec;
    Ok(match config {
        None => HostRewrite::Keep,
        Some(Spec::HostRewriteLiteral(host)) if host.is_empty() => HostRewrite::Keep,
        Some(Spec::HostRewriteLiteral(host)) => {
            HostRewrite::Literal(host_value(host).within("host_rewrite_literal")?)
        }
        Some(Spec::AutoHostRewrite(auto)) if auto.value => HostRewrite::Auto,
        Some(Spec::AutoHostRewrite(_)) => HostRewrite::Keep,
        Some(Spec::HostRewriteHeader(name)) => {
            HostRewrite::Header(header_name(name).within("host_rewrite_header")?)
        }
        Some(Spec::HostRewritePathRegex(rewrite)) => {
            let (pattern, substitution) =
                regex_substitution(rewrite).within("host_rewrite_path_regex")?;
            HostRewrite::PathRegex { pattern, substitution }
        }
        Some(Spec::HostRewrite(_)) => return Err(FieldError::unsupported("host_rewrite")),
    })
}

fn host_value(host: &str) -> Result<String, FieldError> {
    match http::uri::Authority::try_from(host) {
        Ok(_) => Ok(host.to_owned()),
        Err(error) => Err(FieldError::new(format!("{host:?} is not a host: {error}"))),
    }
}

fn clusters(
    cx: &mut Cx<'_>,
    config: Option<&ClusterSpecifier>,
    labels: Option<&Labels>,
) -> Result<ClusterChoice, FieldError> {
    match config {
        None => {
            Err(FieldError::new("leads nowhere: give cluster, weighted_clusters or cluster_header"))
        }
        Some(ClusterSpecifier::Cluster(name)) if name.is_empty() => {
            Err(FieldError::missing("cluster"))
        }
        Some(ClusterSpecifier::Cluster(name)) => Ok(ClusterChoice::One(cx.names.cluster(name))),
        Some(ClusterSpecifier::ClusterHeader(name)) => {
            Ok(ClusterChoice::Header(header_name(name).within("cluster_header")?))
        }
        Some(ClusterSpecifier::WeightedClusters(config)) => {
            Ok(ClusterChoice::Weighted(weighted(cx, config, labels).within("weighted_clusters")?))
        }
        Some(ClusterSpecifier::ClusterSpecifierPlugin(_)) => {
            Err(FieldError::unsupported("cluster_specifier_plugin"))
        }
        Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) => {
            Err(FieldError::unsupported("inline_cluster_specifier_plugin"))
        }
    }
}

fn weighted(
    cx: &mut Cx<'_>,
    config: &PbWeighted,
    of_route: Option<&Labels>,
) -> Result<WeightedClusters, FieldError> {
    if config.random_value_specifier.is_some() {
        return Err(FieldError::unsupported("random_value_specifier"));
    }
    let compiled = all(&config.clusters, "clusters", |one| weighted_cluster(cx, one, of_route))?;
    let sum = |sum: u32, one: &WeightedCluster| sum.checked_add(one.weight);
    let total = compiled.iter().try_fold(0, sum);
    let total = total.filter(|total| *total > 0).ok_or_else(|| {
        FieldError::at("clusters", "the weights have to sum up to 1 to 4294967295")
    })?;
    let clusters = compiled.into_iter().filter(|one| one.weight > 0).collect();
    Ok(WeightedClusters { clusters, total })
}

fn weighted_cluster(
    cx: &mut Cx<'_>,
    config: &ClusterWeight,
    of_route: Option<&Labels>,
) -> Result<WeightedCluster, FieldError> {
    if !config.cluster_header.is_empty() {
        return Err(FieldError::unsupported("cluster_header"));
    }
    if !config.typed_per_filter_config.is_empty() {
        return Err(FieldError::unsupported("typed_per_filter_config"));
    }
    if config.name.is_empty() {
        return Err(FieldError::missing("name"));
    }
    let host_rewrite = match &config.host_rewrite_specifier {
        Some(WeightHost::HostRewriteLiteral(host)) if !host.is_empty() => {
            Some(host_value(host).within("host_rewrite_literal")?)
        }
        _ => None,
    };
    Ok(WeightedCluster {
        cluster: cx.names.cluster(&config.name),
        weight: config.weight.as_ref().map_or(0, |weight| weight.value),
        request_headers: header_mutations(
            &config.request_headers_to_add,
            &config.request_headers_to_remove,
            "request",
        )?,
        response_headers: header_mutations(
            &config.response_headers_to_add,
            &config.response_headers_to_remove,
            "response",
        )?,
        host_rewrite,
        labels: endpoint::required(config.metadata_match.as_ref(), of_route),
    })
}

fn mirror_of(cx: &mut Cx<'_>, config: &RequestMirrorPolicy) -> Result<Mirror, FieldError> {
    let refused = [
        (!config.cluster_header.is_empty(), "cluster_header"),
        (!config.request_headers_mutations.is_empty(), "request_headers_mutations"),
        (!config.host_rewrite_literal.is_empty(), "host_rewrite_literal"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    if config.cluster.is_empty() {
        return Err(FieldError::missing("cluster"));
    }
    let fraction = config.runtime_fraction.as_ref().map(runtime_fraction).transpose();
    Ok(Mirror {
        cluster: cx.names.cluster(&config.cluster),
        fraction: fraction.within("runtime_fraction")?.flatten(),
        keep_host: config.disable_shadow_host_suffix_append,
    })
}

/// Compiles a hash policy.
pub(crate) fn hash_policy(config: &PbHash) -> Result<HashPolicy, FieldError> {
    let source = match &config.policy_specifier {
        None => {
            return Err(FieldError::new("hashes nothing: give header, cookie or another source"));
        }
        Some(PolicySpecifier::Header(header)) => {
            let rewrite = header.regex_rewrite.as_ref().map(regex_substitution).transpose();
            HashSource::Header {
                field: hashed_field(&header.header_name).within("header.header_name")?,
                rewrite: rewrite.within("header.regex_rewrite")?.map(Box::new),
            }
        }
        Some(PolicySpecifier::Cookie(cookie)) => HashSource::Cookie {
            name: cookie.name.clone(),
            ttl: opt_duration(cookie.ttl.as_ref(), "cookie.ttl")?,
            path: Some(cookie.path.clone()).filter(|path| !path.is_empty()),
        },
        Some(PolicySpecifier::ConnectionProperties(_)) => HashSource::SourceIp,
        Some(PolicySpecifier::QueryParameter(query)) => HashSource::Query(query.name.clone()),
        Some(PolicySpecifier::FilterState(_)) => {
            return Err(FieldError::unsupported("filter_state"));
        }
    };
    Ok(HashPolicy { source, terminal: config.terminal })
}

fn hashed_field(name: &str) -> Result<HeaderField, FieldError> {
    Ok(match name {
        ":method" => HeaderField::Method,
        ":authority" => HeaderField::Authority,
        ":path" => HeaderField::Path,
        ":scheme" => HeaderField::Scheme,
        name => HeaderField::Name(header_name(name)?),
    })
}
