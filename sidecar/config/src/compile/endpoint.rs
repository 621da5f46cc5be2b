//! Endpoints.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use weft_filters::config::{FieldError, Within, fraction};
use weft_model::{
    Cluster, DnsHost, Endpoint, EndpointAddress, EndpointCheck, EndpointSet, Health, Labels,
    Locality, Priority, TransportChoice,
};
use weft_route::Fraction;
use weft_xds_proto::pb::envoy::config::core::v3::{
    Address, HealthStatus, Locality as PbLocality, Metadata, address::Address as Kind,
};
use weft_xds_proto::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use weft_xds_proto::pb::google::protobuf::{Struct, value::Kind as ValueKind};
use weft_xds_proto::struct_to_json;

use super::address::{ip, port, port_of, socket_address};
use super::mesh;

/// `overprovisioning_factor` when it is not set, per cent.
const OVERPROVISIONING: u32 = 140;
/// The highest number of a priority (Envoy's limit).
const MAX_PRIORITY: u32 = 128;

/// The namespace of the metadata for load balancing.
pub(super) const BALANCING: &str = "envoy.lb";
/// The namespace of the labels that choose a transport socket.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// Compiles an assignment; every endpoint has to have an address of its own. The endpoints'
/// transport is the default one until [`place`] has put them into a cluster.
pub(crate) fn assignment(config: &ClusterLoadAssignment) -> Result<EndpointSet, FieldError> {
    let mut set = EndpointSet {
        priorities: Vec::new(),
        overprovisioning_factor: factor(config)?,
        drop: drop_overload(config)?,
    };
    each(config, |priority, locality, endpoint| {
        let address = address_of(endpoint)?;
        let mut compiled = compile(endpoint, address, hostname(endpoint), locality)?;
        compiled.more = additional(endpoint).within("endpoint")?;
        level(&mut set, priority).endpoints.push(Arc::new(compiled));
        Ok(())
    })?;
    for group in &config.endpoints {
        if let (Some(weight), false) = (&group.load_balancing_weight, group.lb_endpoints.is_empty())
        {
            let weights = &mut level(&mut set, group.priority).weights;
            *weights.entry(Arc::new(locality_of(group))).or_default() += weight.value;
        }
    }
    Ok(set)
}

fn level(set: &mut EndpointSet, priority: u32) -> &mut Priority {
    let at = priority as usize;
    if set.priorities.len() <= at {
        set.priorities.resize_with(at + 1, Priority::default);
    }
    &mut set.priorities[at]
}

/// The names to resolve in the assignment of a DNS cluster.
pub(super) fn dns_hosts(
    config: &ClusterLoadAssignment,
    cluster: &Cluster,
) -> Result<Vec<DnsHost>, FieldError> {
    let mut hosts = Vec::new();
    each(config, |priority, locality, endpoint| {
        let Some(Kind::SocketAddress(address)) = kind(endpoint)? else {
            return Err(FieldError::at("endpoint.address", "a socket_address is wanted"));
        };
        if address.address.is_empty() {
            return Err(FieldError::missing("endpoint.address.socket_address.address"));
        }
        let port = port_of(address).within("endpoint.address.socket_address")?;
        let name = hostname(endpoint).unwrap_or_else(|| address.address.as_str().into());
        let unknown = EndpointAddress::Socket(SocketAddr::from(([0, 0, 0, 0], port)));
        let like = compile(endpoint, unknown, Some(name), locality)?;
        let like = with_transport(&Arc::new(like), cluster);
        hosts.push(DnsHost { name: address.address.clone(), port, like, priority });
        Ok(())
    })?;
    Ok(hosts)
}

/// Puts endpoints into a cluster: chooses each one's transport, and shares with `before` those
/// that did not change.
pub(crate) fn place(set: &EndpointSet, cluster: &Cluster, before: &EndpointSet) -> EndpointSet {
    let known: std::collections::HashMap<&EndpointAddress, &Arc<Endpoint>> =
        before.iter().map(|endpoint| (&endpoint.address, endpoint)).collect();
    let placed = |endpoint: &Arc<Endpoint>| {
        let placed = with_transport(endpoint, cluster);
        match known.get(&placed.address) {
            Some(before) if ***before == *placed => Arc::clone(before),
            _ => placed,
        }
    };
    let priorities = set.priorities.iter();
    EndpointSet {
        priorities: priorities
            .map(|priority| Priority {
                endpoints: priority.endpoints.iter().map(placed).collect(),
                weights: priority.weights.clone(),
            })
            .collect(),
        overprovisioning_factor: set.overprovisioning_factor,
        drop: set.drop,
    }
}

fn with_transport(endpoint: &Arc<Endpoint>, cluster: &Cluster) -> Arc<Endpoint> {
    let transport = cluster.choose_socket(&endpoint.socket_labels);
    if endpoint.transport == transport {
        return Arc::clone(endpoint);
    }
    Arc::new(Endpoint { transport, ..(**endpoint).clone() })
}

fn factor(config: &ClusterLoadAssignment) -> Result<u32, FieldError> {
    let Some(policy) = &config.policy else { return Ok(OVERPROVISIONING) };
    let factor = policy.overprovisioning_factor.as_ref().map_or(OVERPROVISIONING, |f| f.value);
    if factor < 100 {
        let reason = format!("{factor} is below 100");
        return Err(FieldError::at("policy.overprovisioning_factor", reason));
    }
    Ok(factor)
}

fn drop_overload(config: &ClusterLoadAssignment) -> Result<Option<Fraction>, FieldError> {
    let Some(policy) = &config.policy else { return Ok(None) };
    let one = match policy.drop_overloads.as_slice() {
        [] => return Ok(None),
        [one] => one,
        [_, _, ..] => {
            return Err(FieldError::at("policy.drop_overloads", "more than one is not supported"));
        }
    };
    let part = one.drop_percentage.as_ref().map(fraction).transpose();
    part.within("drop_percentage").within_item("policy.drop_overloads", 0)
}

type Each<'a> = dyn FnMut(u32, &Arc<Locality>, &LbEndpoint) -> Result<(), FieldError> + 'a;

fn each(
    config: &ClusterLoadAssignment,
    mut visit: impl FnMut(u32, &Arc<Locality>, &LbEndpoint) -> Result<(), FieldError>,
) -> Result<(), FieldError> {
    for (index, group) in config.endpoints.iter().enumerate() {
        each_of(group, &mut visit).within_item("endpoints", index)?;
    }
    Ok(())
}

fn each_of(group: &LocalityLbEndpoints, visit: &mut Each<'_>) -> Result<(), FieldError> {
    if group.lb_config.is_some() {
        return Err(FieldError::at("lb_config", "is not supported; give lb_endpoints"));
    }
    if group.priority > MAX_PRIORITY {
        let reason = format!("{} is above {MAX_PRIORITY}", group.priority);
        return Err(FieldError::at("priority", reason));
    }
    let locality = locality_of(group);
    let locality = Arc::new(locality);
    for (index, endpoint) in group.lb_endpoints.iter().enumerate() {
        visit(group.priority, &locality, endpoint).within_item("lb_endpoints", index)?;
    }
    Ok(())
}

fn locality_of(group: &LocalityLbEndpoints) -> Locality {
    group.locality.as_ref().map_or_else(Locality::default, locality)
}

/// A locality.
pub(super) fn locality(config: &PbLocality) -> Locality {
    Locality {
        region: config.region.clone(),
        zone: config.zone.clone(),
        sub_zone: config.sub_zone.clone(),
    }
}

fn compile(
    config: &LbEndpoint,
    address: EndpointAddress,
    hostname: Option<Arc<str>>,
    locality: &Arc<Locality>,
) -> Result<Endpoint, FieldError> {
    let weight = config.load_balancing_weight.as_ref().map_or(1, |weight| weight.value);
    if weight == 0 {
        return Err(FieldError::at("load_balancing_weight", "has to be 1 or more"));
    }
    let metadata = config.metadata.as_ref();
    let socket = metadata.and_then(|metadata| metadata.filter_metadata.get(SOCKET_MATCH));
    Ok(Endpoint {
        check: health_check(config, &address).within("endpoint.health_check_config")?,
        address,
        more: None,
        hostname,
        weight,
        health: health(config.health_status),
        locality: Arc::clone(locality),
        socket_labels: socket.map(labels).unwrap_or_default(),
        hash_key: metadata.and_then(hash_key),
        labels: metadata
            .and_then(|metadata| metadata.filter_metadata.get(BALANCING))
            .map(|labels| Arc::new(balancing_labels(labels))),
        workload: metadata.and_then(mesh::workload),
        transport: TransportChoice::default(),
    })
}

/// `additional_addresses`
fn additional(config: &LbEndpoint) -> Result<Option<Arc<[SocketAddr]>>, FieldError> {
    let Some(HostIdentifier::Endpoint(endpoint)) = &config.host_identifier else { return Ok(None) };
    let mut more = Vec::with_capacity(endpoint.additional_addresses.len());
    for (index, one) in endpoint.additional_addresses.iter().enumerate() {
        let address = match one.address.as_ref().and_then(|one| one.address.as_ref()) {
            Some(Kind::SocketAddress(address)) => {
                socket_address(address).within("address.socket_address")
            }
            Some(_) => Err(FieldError::at("address", "a socket_address is wanted")),
            None => Err(FieldError::missing("address")),
        };
        more.push(address.within_item("additional_addresses", index)?);
    }
    Ok((!more.is_empty()).then(|| more.into()))
}

fn health_check(
    config: &LbEndpoint,
    address: &EndpointAddress,
) -> Result<Option<Box<EndpointCheck>>, FieldError> {
    let Some(HostIdentifier::Endpoint(endpoint)) = &config.host_identifier else { return Ok(None) };
    let Some(check) = &endpoint.health_check_config else { return Ok(None) };
    let ip = match check.address.as_ref().and_then(|address| address.address.as_ref()) {
        None => None,
        Some(Kind::SocketAddress(given)) => Some(ip(&given.address).within("address")?),
        Some(_) => return Err(FieldError::at("address", "a socket_address is wanted")),
    };
    let own = match address {
        EndpointAddress::Socket(own) => Some(*own),
        EndpointAddress::Pipe(_) => None,
    };
    let port = match check.port_value {
        0 => None,
        given => Some(port(given).within("port_value")?),
    };
    let elsewhere = own
        .filter(|_| ip.is_some() || port.is_some())
        .map(|own| SocketAddr::new(ip.unwrap_or(own.ip()), port.unwrap_or(own.port())));
    Ok(Some(Box::new(EndpointCheck {
        address: elsewhere,
        hostname: Some(check.hostname.as_str()).filter(|name| !name.is_empty()).map(Into::into),
        disabled: check.disable_active_health_check,
    })))
}

fn health(value: i32) -> Health {
    match HealthStatus::try_from(value) {
        Ok(HealthStatus::Unhealthy | HealthStatus::Timeout) => Health::Unhealthy,
        Ok(HealthStatus::Draining) => Health::Draining,
        Ok(HealthStatus::Degraded) => Health::Degraded,
        Ok(HealthStatus::Unknown | HealthStatus::Healthy) | Err(_) => Health::Healthy,
    }
}

/// The strings of a `Struct`; other values match no label.
pub(super) fn labels(config: &Struct) -> BTreeMap<String, String> {
    let text = |(key, value): (&String, &_)| match value {
        Some(ValueKind::StringValue(text)) => Some((key.clone(), String::clone(text))),
        _ => None,
    };
    config.fields.iter().filter_map(|(key, value)| text((key, &value.kind))).collect()
}

/// Metadata for load balancing, each value as JSON.
pub(super) fn balancing_labels(config: &Struct) -> Labels {
    let json = struct_to_json(config);
    json.into_iter().map(|(key, value)| (key, value.to_string())).collect()
}

/// The metadata that endpoints need to have (`metadata_match`); a cluster's entry adds to the
/// route's and wins.
pub(super) fn required(
    config: Option<&Metadata>,
    of_route: Option<&Labels>,
) -> Option<Arc<Labels>> {
    let own = config.and_then(|metadata| metadata.filter_metadata.get(BALANCING));
    let mut labels = of_route.cloned().unwrap_or_default();
    labels.extend(own.map(balancing_labels).unwrap_or_default());
    (!labels.is_empty()).then(|| Arc::new(labels))
}

fn hash_key(metadata: &Metadata) -> Option<String> {
    match metadata.filter_metadata.get(BALANCING)?.fields.get("hash_key")?.kind.as_ref()? {
        ValueKind::StringValue(key) => Some(key.clone()),
        _ => None,
    }
}

fn hostname(config: &LbEndpoint) -> Option<Arc<str>> {
    match &config.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) if !endpoint.hostname.is_empty() => {
            Some(endpoint.hostname.as_str().into())
        }
        _ => None,
    }
}

fn kind(config: &LbEndpoint) -> Result<Option<&Kind>, FieldError> {
    match &config.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => {
            Ok(endpoint.address.as_ref().and_then(|address: &Address| address.address.as_ref()))
        }
        Some(HostIdentifier::EndpointName(_)) => Err(FieldError::unsupported("endpoint_name")),
        None => Err(FieldError::missing("endpoint")),
    }
}

fn address_of(config: &LbEndpoint) -> Result<EndpointAddress, FieldError> {
    match kind(config)? {
        None => Err(FieldError::missing("endpoint.address")),
        Some(Kind::SocketAddress(address)) => {
            let address = socket_address(address).within("endpoint.address.socket_address")?;
            Ok(EndpointAddress::Socket(address))
        }
        Some(Kind::Pipe(pipe)) => Ok(EndpointAddress::Pipe(PathBuf::from(&pipe.path))),
        Some(Kind::EnvoyInternalAddress(_)) => {
            Err(FieldError::unsupported("endpoint.address.envoy_internal_address"))
        }
    }
}
