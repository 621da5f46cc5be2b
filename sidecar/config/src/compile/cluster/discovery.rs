//! How a cluster's endpoints become known.

use std::time::Duration;

use weft_filters::config::{FieldError, Within, decode, header_name, opt_duration};
use weft_model::{Cluster, Discovery, DnsFamily, DnsSettings, NameSettings};
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::config::cluster::v3::{
    Cluster as PbCluster,
    cluster::{
        ClusterDiscoveryType, CustomClusterType, DiscoveryType, DnsLookupFamily, LbConfig,
        OriginalDstLbConfig,
    },
};
use weft_xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use weft_xds_proto::pb::envoy::extensions::clusters::aggregate::v3::ClusterConfig as AggregateCluster;
use weft_xds_proto::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as TypedFamily;
use weft_xds_proto::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use weft_xds_proto::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
    ClusterConfig as NamedCluster, cluster_config::ClusterImplementationSpecifier as Specifier,
};
use weft_xds_proto::pb::envoy::extensions::clusters::original_dst::v3::OriginalDstCluster;
use weft_xds_proto::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;

use crate::compile::address::port;
use crate::compile::source::over_ads;
use crate::compile::{Cx, NeededEndpoints, endpoint};

/// `dns_refresh_rate` when it is not set.
const REFRESH: Duration = Duration::from_secs(5);

/// Compiles the discovery of `cluster`, whose other fields are there.
pub(super) fn discovery(
    cx: &mut Cx<'_>,
    config: &PbCluster,
    cluster: &Cluster,
) -> Result<Discovery, FieldError> {
    let kind = match &config.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return typed(config, custom, cluster).within("cluster_type");
        }
        Some(ClusterDiscoveryType::Type(kind)) => {
            let unknown = |_| FieldError::at("type", format!("{kind} is not a discovery type"));
            DiscoveryType::try_from(*kind).map_err(unknown)?
        }
    };
    match kind {
        DiscoveryType::Static => Ok(Discovery::Static),
        DiscoveryType::StrictDns => Ok(Discovery::StrictDns(dns(config, cluster)?)),
        DiscoveryType::LogicalDns => {
            let settings = dns(config, cluster)?;
            one_host(&settings)?;
            Ok(Discovery::LogicalDns(settings))
        }
        DiscoveryType::Eds => eds(cx, config).within("eds_cluster_config"),
        DiscoveryType::OriginalDst => {
            let older = match &config.lb_config {
                Some(LbConfig::OriginalDstLbConfig(options)) => options.clone(),
                _ => OriginalDstLbConfig::default(),
            };
            let options = OriginalDstCluster {
                use_http_header: older.use_http_header,
                http_header_name: older.http_header_name,
                upstream_port_override: older.upstream_port_override,
                metadata_key: older.metadata_key,
            };
            original_dst(config, &options).within("original_dst_lb_config")
        }
    }
}

fn eds(cx: &mut Cx<'_>, config: &PbCluster) -> Result<Discovery, FieldError> {
    let Some(eds) = &config.eds_cluster_config else {
        return Err(FieldError::new("is required for clusters of type EDS"));
    };
    let timeout = over_ads(eds.eds_config.as_ref()).within("eds_config")?;
    cx.needs.endpoints = Some(NeededEndpoints { timeout });
    let name = if eds.service_name.is_empty() { &config.name } else { &eds.service_name };
    Ok(Discovery::Eds(name.as_str().into()))
}

fn original_dst(config: &PbCluster, options: &OriginalDstCluster) -> Result<Discovery, FieldError> {
    if options.metadata_key.is_some() {
        return Err(FieldError::unsupported("metadata_key"));
    }
    if config.load_assignment.is_some() {
        let reason = "a cluster of type ORIGINAL_DST takes no load_assignment";
        return Err(FieldError::new(reason));
    }
    let port = options.upstream_port_override.as_ref().map(|value| port(value.value));
    let header = match (options.use_http_header, options.http_header_name.as_str()) {
        (false, _) => None,
        (true, "") => Some(http::HeaderName::from_static("x-envoy-original-dst-host")),
        (true, name) => Some(header_name(name).within("http_header_name")?),
    };
    Ok(Discovery::OriginalDst { port: port.transpose().within("upstream_port_override")?, header })
}

fn hosts_of(config: &PbCluster) -> &ClusterLoadAssignment {
    static NONE: std::sync::LazyLock<ClusterLoadAssignment> =
        std::sync::LazyLock::new(ClusterLoadAssignment::default);
    config.load_assignment.as_ref().unwrap_or(&NONE)
}

#[expect(deprecated, reason = "Istio and others still send the cluster's own DNS fields")]
fn dns(config: &PbCluster, cluster: &Cluster) -> Result<DnsSettings, FieldError> {
    let hosts = endpoint::dns_hosts(hosts_of(config), cluster).within("load_assignment")?;
    let refresh = opt_duration(config.dns_refresh_rate.as_ref(), "dns_refresh_rate")?;
    Ok(DnsSettings {
        hosts,
        refresh: refresh.filter(|refresh| !refresh.is_zero()).unwrap_or(REFRESH),
        respect_ttl: config.respect_dns_ttl,
        family: family(config.dns_lookup_family)?,
    })
}

/// `dns_lookup_family`
fn family(value: i32) -> Result<DnsFamily, FieldError> {
    match DnsLookupFamily::try_from(value) {
        Ok(DnsLookupFamily::Auto) => Ok(DnsFamily::Auto),
        Ok(DnsLookupFamily::V4Only) => Ok(DnsFamily::V4Only),
        Ok(DnsLookupFamily::V6Only) => Ok(DnsFamily::V6Only),
        Ok(DnsLookupFamily::V4Preferred) => Ok(DnsFamily::V4Preferred),
        Ok(DnsLookupFamily::All) => Ok(DnsFamily::All),
        Err(_) => Err(unknown_family(value)),
    }
}

fn unknown_family(value: i32) -> FieldError {
    FieldError::at("dns_lookup_family", format!("{value} is not a lookup family"))
}

fn one_host(settings: &DnsSettings) -> Result<(), FieldError> {
    if settings.hosts.len() == 1 {
        return Ok(());
    }
    let reason = format!("a LOGICAL_DNS cluster has one endpoint, not {}", settings.hosts.len());
    Err(FieldError::at("load_assignment", reason))
}

/// The kinds of clusters that `cluster_type` names.
fn typed(
    config: &PbCluster,
    custom: &CustomClusterType,
    cluster: &Cluster,
) -> Result<Discovery, FieldError> {
    let any = custom.typed_config.as_ref().ok_or_else(|| FieldError::missing("typed_config"))?;
    match type_name(&any.type_url) {
        "envoy.extensions.clusters.dns.v3.DnsCluster" => {
            let options: DnsCluster = decode(any).within("typed_config")?;
            typed_dns(config, &options, cluster).within("typed_config")
        }
        "envoy.extensions.clusters.original_dst.v3.OriginalDstCluster" => {
            let options = decode(any).within("typed_config")?;
            original_dst(config, &options).within("typed_config")
        }
        "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig" => {
            let options: NamedCluster = decode(any).within("typed_config")?;
            named(&options).within("typed_config")
        }
        "envoy.extensions.clusters.aggregate.v3.ClusterConfig" => {
            let options: AggregateCluster = decode(any).within("typed_config")?;
            if options.clusters.is_empty() {
                return Err(FieldError::missing("typed_config.clusters"));
            }
            let clusters = options.clusters.iter().map(|name| name.as_str().into());
            Ok(Discovery::Aggregate(clusters.collect()))
        }
        other => {
            let reason =
                format!("no cluster type is known for {other:?} (named {:?})", custom.name);
            Err(FieldError::at("typed_config", reason))
        }
    }
}

fn typed_dns(
    config: &PbCluster,
    options: &DnsCluster,
    cluster: &Cluster,
) -> Result<Discovery, FieldError> {
    let refresh = opt_duration(options.dns_refresh_rate.as_ref(), "dns_refresh_rate")?;
    let family = match TypedFamily::try_from(options.dns_lookup_family) {
        Ok(TypedFamily::Unspecified | TypedFamily::Auto) => DnsFamily::Auto,
        Ok(TypedFamily::V4Only) => DnsFamily::V4Only,
        Ok(TypedFamily::V6Only) => DnsFamily::V6Only,
        Ok(TypedFamily::V4Preferred) => DnsFamily::V4Preferred,
        Ok(TypedFamily::All) => DnsFamily::All,
        Err(_) => return Err(unknown_family(options.dns_lookup_family)),
    };
    let settings = DnsSettings {
        hosts: endpoint::dns_hosts(hosts_of(config), cluster).within("load_assignment")?,
        refresh: refresh.filter(|refresh| !refresh.is_zero()).unwrap_or(REFRESH),
        respect_ttl: options.respect_dns_ttl,
        family,
    };
    if !options.all_addresses_in_single_endpoint {
        return Ok(Discovery::StrictDns(settings));
    }
    one_host(&settings)?;
    Ok(Discovery::LogicalDns(settings))
}

/// A dynamic forward proxy.
fn named(options: &NamedCluster) -> Result<Discovery, FieldError> {
    match &options.cluster_implementation_specifier {
        Some(Specifier::DnsCacheConfig(cache)) => {
            Ok(Discovery::Named(names(cache).within("dns_cache_config")?))
        }
        Some(Specifier::SubClustersConfig(_)) => {
            Err(FieldError::unsupported("sub_clusters_config"))
        }
        None => Err(FieldError::missing("dns_cache_config")),
    }
}

fn names(cache: &DnsCacheConfig) -> Result<NameSettings, FieldError> {
    if cache.name.is_empty() {
        return Err(FieldError::missing("name"));
    }
    let refused = [
        (cache.key_value_config.is_some(), "key_value_config"),
        (cache.resolved_address_filter.is_some(), "resolved_address_filter"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let time = |value: &Option<_>, field, usual| {
        Ok::<_, FieldError>(opt_duration(value.as_ref(), field)?.unwrap_or(usual))
    };
    Ok(NameSettings {
        family: family(cache.dns_lookup_family)?,
        refresh: time(&cache.dns_refresh_rate, "dns_refresh_rate", Duration::from_secs(60))?,
        least_refresh: time(
            &cache.dns_min_refresh_rate,
            "dns_min_refresh_rate",
            Duration::from_secs(5),
        )?,
        unused: time(&cache.host_ttl, "host_ttl", Duration::from_secs(300))?,
        most: cache.max_hosts.as_ref().map_or(1024, |most| most.value as usize),
        timeout: time(&cache.dns_query_timeout, "dns_query_timeout", Duration::from_secs(5))?,
    })
}
