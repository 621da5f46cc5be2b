//! Listeners.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use weft_filter_api::KeepSource;
use weft_filters::config::{FieldError, Within, decode, limit};
use weft_model::{
    ListenAddress, Listener, ListenerFilter, ListenerFilterKind, PortPredicate, SocketMoment,
    SocketOption, TrafficDirection,
};
use weft_telemetry::ListenerStats;
use weft_xds_proto::Any;
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::config::core::v3::{
    SocketOption as PbSocketOption, TrafficDirection as PbDirection,
    socket_option::{SocketIpVersion, SocketState, Value},
};
use weft_xds_proto::pb::envoy::config::listener::v3::{
    Listener as PbListener, ListenerFilter as PbFilter, ListenerFilterChainMatchPredicate,
    listener_filter::ConfigType, listener_filter_chain_match_predicate::Rule,
};
use weft_xds_proto::pb::envoy::extensions::filters::listener::original_src::v3::OriginalSrc;
use weft_xds_proto::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;

use super::access_log::access_logs;
use super::address::listen_address;
use super::options::flag;
use super::{Cx, chain};

/// `listener_filters_timeout` when it is not set.
const FILTERS_TIMEOUT: Duration = Duration::from_secs(15);
/// `per_connection_buffer_limit_bytes` when it is not set.
const BUFFER: u32 = 1 << 20;
/// `tcp_backlog_size` when it is not set: the system's limit for it.
const BACKLOG: u32 = 4096;

/// Compiles a listener; `encoded` is the resource as it came.
pub(crate) fn listener(
    cx: &mut Cx<'_>,
    config: &PbListener,
    encoded: &Any,
) -> Result<Listener, FieldError> {
    refuse(config)?;
    cx.direction = direction(config.traffic_direction);
    let mut addresses = vec![listen_address(config.address.as_ref()).within("address")?];
    for (index, more) in config.additional_addresses.iter().enumerate() {
        let address = listen_address(more.address.as_ref()).within("address");
        addresses.push(address.within_item("additional_addresses", index)?);
    }
    let mut filters = Vec::with_capacity(config.listener_filters.len());
    for (index, filter) in config.listener_filters.iter().enumerate() {
        filters.push(listener_filter(filter).within_item("listener_filters", index)?);
    }
    let stat_name = match config.stat_prefix.as_str() {
        "" => stat_name(&addresses[0]),
        prefix => prefix.trim_end_matches(';').to_owned(),
    };
    Ok(Listener {
        name: config.name.as_str().into(),
        bind: binds(config),
        use_original_dst: flag(config.use_original_dst.as_ref()),
        transparent: flag(config.transparent.as_ref()),
        freebind: flag(config.freebind.as_ref()),
        socket_options: socket_options(&config.socket_options)?,
        backlog: config.tcp_backlog_size.as_ref().map_or(BACKLOG, |size| size.value),
        exact_balance: exact_balance(config).within("connection_balance_config")?,
        direction: cx.direction,
        filters,
        filters_timeout: limit(
            config.listener_filters_timeout.as_ref(),
            "listener_filters_timeout",
            Some(FILTERS_TIMEOUT),
        )?,
        continue_on_timeout: config.continue_on_listener_filters_timeout,
        chains: chain::chains(cx, config)?,
        buffer_limit: config
            .per_connection_buffer_limit_bytes
            .as_ref()
            .map_or(BUFFER, |size| size.value),
        access_logs: access_logs(Some(cx), &config.access_log, "access_log")?,
        stats: ListenerStats::new(cx.registry, &stat_name),
        fingerprint: FixedState::default().hash_one(&encoded.value),
        addresses,
    })
}

fn socket_options(config: &[PbSocketOption]) -> Result<Vec<SocketOption>, FieldError> {
    let mut options = Vec::with_capacity(config.len());
    for (index, one) in config.iter().enumerate() {
        if let Some(option) = socket_option(one).within_item("socket_options", index)? {
            options.push(option);
        }
    }
    Ok(options)
}

/// An option; none, if it is for sockets of another type.
fn socket_option(config: &PbSocketOption) -> Result<Option<SocketOption>, FieldError> {
    if config.r#type.as_ref().is_some_and(|kind| kind.stream.is_none() && kind.datagram.is_some()) {
        return Ok(None);
    }
    let number = |value: i64, field: &str| {
        i32::try_from(value).map_err(|_| FieldError::at(field, format!("{value} is too large")))
    };
    let value = match &config.value {
        Some(Value::IntValue(value)) => number(*value, "int_value")?.to_ne_bytes().to_vec(),
        Some(Value::BufValue(value)) => value.clone(),
        None => return Err(FieldError::missing("int_value")),
    };
    Ok(Some(SocketOption {
        description: config.description.clone(),
        level: number(config.level, "level")?,
        name: number(config.name, "name")?,
        value,
        moment: match SocketState::try_from(config.state) {
            Ok(SocketState::StatePrebind) => SocketMoment::Prebind,
            Ok(SocketState::StateBound) => SocketMoment::Bound,
            Ok(SocketState::StateListening) => SocketMoment::Listening,
            Err(_) => return Err(FieldError::at("state", format!("{} is no state", config.state))),
        },
        ipv4: match SocketIpVersion::try_from(config.ip_version) {
            Ok(SocketIpVersion::Unspecified) => None,
            Ok(SocketIpVersion::Ipv4) => Some(true),
            Ok(SocketIpVersion::Ipv6) => Some(false),
            Err(_) => {
                let reason = format!("{} is no version of IP", config.ip_version);
                return Err(FieldError::at("ip_version", reason));
            }
        },
    }))
}

fn refuse(config: &PbListener) -> Result<(), FieldError> {
    let refused = [
        (config.listener_specifier.is_some(), "internal_listener"),
        (config.api_listener.is_some(), "api_listener"),
        (config.udp_listener_config.is_some(), "udp_listener_config"),
        (config.filter_chain_matcher.is_some(), "filter_chain_matcher"),
        (config.fcds_config.is_some(), "fcds_config"),
    ];
    match refused.iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(FieldError::unsupported(field)),
        None => Ok(()),
    }
}

#[expect(deprecated, reason = "older control planes send deprecated_v1.bind_to_port")]
fn binds(config: &PbListener) -> bool {
    let older = config.deprecated_v1.as_ref().and_then(|older| older.bind_to_port.as_ref());
    config.bind_to_port.as_ref().or(older).is_none_or(|bind| bind.value)
}

fn exact_balance(config: &PbListener) -> Result<bool, FieldError> {
    use weft_xds_proto::pb::envoy::config::listener::v3::listener::connection_balance_config::BalanceType;
    match config.connection_balance_config.as_ref().and_then(|config| config.balance_type.as_ref())
    {
        None => Ok(false),
        Some(BalanceType::ExactBalance(_)) => Ok(true),
        Some(BalanceType::ExtendBalance(_)) => Err(FieldError::unsupported("extend_balance")),
        Some(BalanceType::CpuLocalityBalance(_)) => {
            Err(FieldError::unsupported("cpu_locality_balance"))
        }
    }
}

fn direction(value: i32) -> TrafficDirection {
    match PbDirection::try_from(value) {
        Ok(PbDirection::Inbound) => TrafficDirection::Inbound,
        Ok(PbDirection::Outbound) => TrafficDirection::Outbound,
        Ok(PbDirection::Unspecified) | Err(_) => TrafficDirection::Unspecified,
    }
}

/// An address as it stands in names of statistics, e.g. `0.0.0.0_15006`.
fn stat_name(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Socket(address) => address.to_string().replace(':', "_"),
        ListenAddress::Pipe(path) => path.display().to_string(),
    }
}

fn listener_filter(config: &PbFilter) -> Result<ListenerFilter, FieldError> {
    let any = match &config.config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            return Err(FieldError::unsupported("config_discovery"));
        }
        None => return Err(FieldError::missing("typed_config")),
    };
    let kind = match type_name(&any.type_url) {
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst" => {
            ListenerFilterKind::OriginalDst
        }
        "envoy.extensions.filters.listener.original_src.v3.OriginalSrc" => {
            let keep: OriginalSrc = decode(any).within("typed_config")?;
            ListenerFilterKind::OriginalSrc(KeepSource { port: keep.bind_port, mark: keep.mark })
        }
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" => {
            ListenerFilterKind::TlsInspector
        }
        "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector" => {
            ListenerFilterKind::HttpInspector
        }
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol" => {
            let proxy: ProxyProtocol = decode(any).within("typed_config")?;
            ListenerFilterKind::ProxyProtocol {
                optional: proxy.allow_requests_without_proxy_protocol,
            }
        }
        other => {
            let reason =
                format!("no listener filter is known for {other:?} (named {:?})", config.name);
            return Err(FieldError::at("typed_config", reason));
        }
    };
    let disabled = config.filter_disabled.as_ref().map(predicate).transpose();
    Ok(ListenerFilter { kind, disabled: disabled.within("filter_disabled")? })
}

/// How deep predicates may be nested; what is deeper is a mistake or an attack on the stack.
const DEPTH: usize = 32;

fn predicate(config: &ListenerFilterChainMatchPredicate) -> Result<PortPredicate, FieldError> {
    nested(config, DEPTH)
}

fn nested(
    config: &ListenerFilterChainMatchPredicate,
    depth: usize,
) -> Result<PortPredicate, FieldError> {
    let deeper = depth.checked_sub(1).ok_or_else(|| FieldError::new("is nested too deeply"))?;
    let all = |rules: &[ListenerFilterChainMatchPredicate]| -> Result<Vec<_>, FieldError> {
        let each = rules.iter().enumerate();
        each.map(|(index, rule)| nested(rule, deeper).within_item("rules", index)).collect()
    };
    Ok(match &config.rule {
        None => return Err(FieldError::new("has no rule")),
        Some(Rule::AnyMatch(true)) => PortPredicate::Any,
        Some(Rule::AnyMatch(false)) => {
            return Err(FieldError::at("any_match", "has to be true"));
        }
        Some(Rule::DestinationPortRange(range)) => {
            let port = |value: i32| u32::try_from(value).ok().filter(|port| *port <= 65_536);
            let (Some(start), Some(end)) = (port(range.start), port(range.end)) else {
                let reason = format!("[{}, {}) is not a range of ports", range.start, range.end);
                return Err(FieldError::at("destination_port_range", reason));
            };
            PortPredicate::Ports(start..end)
        }
        Some(Rule::NotMatch(inner)) => {
            PortPredicate::Not(Box::new(nested(inner, deeper).within("not_match")?))
        }
        Some(Rule::OrMatch(set)) => PortPredicate::AnyOf(all(&set.rules).within("or_match")?),
        Some(Rule::AndMatch(set)) => PortPredicate::AllOf(all(&set.rules).within("and_match")?),
    })
}

/// The listener's name, or for a static one without any, its address.
pub(crate) fn name_of(config: &PbListener) -> String {
    if !config.name.is_empty() {
        return config.name.clone();
    }
    match listen_address(config.address.as_ref()) {
        Ok(ListenAddress::Socket(address)) => address.to_string(),
        Ok(ListenAddress::Pipe(path)) => path.display().to_string(),
        Err(_) => String::new(),
    }
}
