//! Filter chains.

use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use weft_filters::config::{FieldError, Within, data_source, decode, opt_duration};
use weft_filters::{NetworkFilterKind, compile_network, is_metadata_exchange};
use weft_model::{
    ChainMatch, FilterChain, FilterChainTable, SourceType, Terminal, TransportProtocol,
    TransportSocket,
};
use weft_xds_proto::any::is;
use weft_xds_proto::pb::envoy::config::core::v3::CidrRange;
use weft_xds_proto::pb::envoy::config::listener::v3::{
    Filter, FilterChain as PbChain, FilterChainMatch, Listener as PbListener, filter::ConfigType,
    filter_chain_match::ConnectionSourceType,
};
use weft_xds_proto::pb::envoy::extensions::filters::network::direct_response::v3::Config as PbDirect;
use weft_xds_proto::pb::envoy::extensions::filters::network::echo::v3::Echo as PbEcho;
use weft_xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager as PbManager;
use weft_xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as PbTcp;

use super::address::{cidr, port};
use super::manager::manager;
use super::tcp::tcp_proxy;
use super::{Cx, extension, tls};

/// Compiles the chains of a listener.
pub(super) fn chains(cx: &mut Cx<'_>, config: &PbListener) -> Result<FilterChainTable, FieldError> {
    let mut chains = Vec::with_capacity(config.filter_chains.len());
    for (index, chain) in config.filter_chains.iter().enumerate() {
        let both = chain_match(chain.filter_chain_match.as_ref())
            .within("filter_chain_match")
            .and_then(|wanted| Ok((wanted, Arc::new(filter_chain(cx, chain)?))));
        chains.push(both.within_item("filter_chains", index)?);
    }
    let default = match &config.default_filter_chain {
        None => None,
        Some(chain) => Some(Arc::new(filter_chain(cx, chain).within("default_filter_chain")?)),
    };
    if chains.is_empty() && default.is_none() {
        return Err(FieldError::missing("filter_chains"));
    }
    FilterChainTable::compile(&chains, default).map_err(|conflict| {
        let text = conflict.to_string();
        let reason = text.strip_prefix("filter_chains: ").unwrap_or(&text);
        FieldError::at("filter_chains", reason)
    })
}

fn chain_match(config: Option<&FilterChainMatch>) -> Result<ChainMatch, FieldError> {
    let Some(config) = config else { return Ok(ChainMatch::default()) };
    let refused = [
        (!config.address_suffix.is_empty(), "address_suffix"),
        (config.suffix_len.is_some(), "suffix_len"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let mut server_names = Vec::with_capacity(config.server_names.len());
    for (index, name) in config.server_names.iter().enumerate() {
        server_names.push(server_name(name).within_item("server_names", index)?);
    }
    let destination_port = config.destination_port.as_ref().map(|value| port(value.value));
    Ok(ChainMatch {
        destination_port: destination_port.transpose().within("destination_port")?,
        prefix_ranges: ranges(&config.prefix_ranges, "prefix_ranges")?,
        server_names,
        transport_protocol: match config.transport_protocol.as_str() {
            "" => None,
            "raw_buffer" => Some(TransportProtocol::Raw),
            "tls" => Some(TransportProtocol::Tls),
            other => {
                let reason = format!("{other:?} is not one of raw_buffer, tls");
                return Err(FieldError::at("transport_protocol", reason));
            }
        },
        application_protocols: config.application_protocols.clone(),
        direct_sources: ranges(&config.direct_source_prefix_ranges, "direct_source_prefix_ranges")?,
        source_type: match ConnectionSourceType::try_from(config.source_type) {
            Ok(ConnectionSourceType::Any) => SourceType::Any,
            Ok(ConnectionSourceType::SameIpOrLoopback) => SourceType::Local,
            Ok(ConnectionSourceType::External) => SourceType::External,
            Err(_) => {
                let reason = format!("{} is not a type of sources", config.source_type);
                return Err(FieldError::at("source_type", reason));
            }
        },
        sources: ranges(&config.source_prefix_ranges, "source_prefix_ranges")?,
        source_ports: source_ports(&config.source_ports)?,
    })
}

fn ranges(config: &[CidrRange], field: &str) -> Result<Vec<IpNet>, FieldError> {
    let each = config.iter().enumerate();
    each.map(|(index, range)| cidr(range).within_item(field, index)).collect()
}

fn source_ports(config: &[u32]) -> Result<Vec<u16>, FieldError> {
    let each = config.iter().enumerate();
    let each = each.map(|(index, value)| {
        match port(*value) {
            Ok(0) => Err(FieldError::new("0 is not a port of a client")),
            other => other,
        }
        .within_item("source_ports", index)
    });
    each.collect()
}

fn server_name(name: &str) -> Result<String, FieldError> {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    if rest.is_empty() || rest.contains('*') {
        let reason = format!("{name:?}: a name or *.suffix is wanted");
        return Err(FieldError::new(reason));
    }
    Ok(name.to_ascii_lowercase())
}

fn filter_chain(cx: &mut Cx<'_>, config: &PbChain) -> Result<FilterChain, FieldError> {
    #[expect(deprecated, reason = "it has to be refused by name")]
    let proxy_protocol = config.use_proxy_proto.as_ref().is_some_and(|flag| flag.value);
    if proxy_protocol {
        return Err(FieldError::at(
            "use_proxy_proto",
            "is not supported; give the listener filter envoy.filters.listener.proxy_protocol",
        ));
    }
    let transport = match &config.transport_socket {
        None => TransportSocket::Raw,
        Some(socket) => {
            tls::downstream(cx, socket, exchanges(config)).within("transport_socket")?
        }
    };
    let mut network_filters = Vec::new();
    let mut terminal = None;
    for (index, filter) in config.filters.iter().enumerate() {
        let compiled = if terminal.is_some() {
            Err(FieldError::new("stands behind the terminal filter and would never run"))
        } else {
            network_filter(cx, filter)
        };
        match compiled.within_item("filters", index)? {
            Compiled::Terminal(filter) => terminal = Some(filter),
            Compiled::Before(NetworkFilterKind::Filter(filter)) => network_filters.push(filter),
            Compiled::Before(NetworkFilterKind::Inert) => {}
        }
    }
    let timeout = config.transport_socket_connect_timeout.as_ref();
    Ok(FilterChain {
        name: config.name.as_str().into(),
        transport,
        handshake_timeout: opt_duration(timeout, "transport_socket_connect_timeout")?
            .filter(|timeout| !timeout.is_zero()),
        network_filters,
        terminal: terminal.ok_or_else(|| {
            FieldError::at("filters", "end in no terminal filter: http_connection_manager, tcp_proxy, direct_response or echo")
        })?,
    })
}

/// Whether connections begin with what peers tell each other: the TCP proxy sees to that.
fn exchanges(config: &PbChain) -> bool {
    let typed = |filter: &Filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => Some(any.clone()),
        _ => None,
    };
    let all: Vec<_> = config.filters.iter().filter_map(typed).collect();
    all.iter().any(is_metadata_exchange) && all.iter().any(is::<PbTcp>)
}

enum Compiled {
    Before(NetworkFilterKind),
    Terminal(Terminal),
}

fn network_filter(cx: &mut Cx<'_>, filter: &Filter) -> Result<Compiled, FieldError> {
    let config = match &filter.config_type {
        Some(ConfigType::TypedConfig(config)) => config,
        Some(ConfigType::ConfigDiscovery(source)) => {
            let filter = extension::network(cx, &filter.name, source).within("config_discovery")?;
            return Ok(Compiled::Before(NetworkFilterKind::Filter(filter)));
        }
        None => return Err(FieldError::missing("typed_config")),
    };
    if is::<PbManager>(config) {
        let manager =
            decode(config).and_then(|config| manager(cx, &config)).within("typed_config")?;
        return Ok(Compiled::Terminal(Terminal::Http(Arc::new(manager))));
    }
    if is::<PbTcp>(config) {
        let proxy =
            decode(config).and_then(|config| tcp_proxy(cx, &config)).within("typed_config")?;
        return Ok(Compiled::Terminal(Terminal::Tcp(Arc::new(proxy))));
    }
    if is::<PbDirect>(config) {
        let direct = decode(config).and_then(|config| direct_response(&config));
        return Ok(Compiled::Terminal(Terminal::Direct(direct.within("typed_config")?)));
    }
    if is::<PbEcho>(config) {
        decode::<PbEcho>(config).within("typed_config")?;
        return Ok(Compiled::Terminal(Terminal::Echo));
    }
    let mut filter_cx = cx.for_filters("");
    compile_network(&filter.name, config, &mut filter_cx).map(Compiled::Before)
}

fn direct_response(config: &PbDirect) -> Result<Bytes, FieldError> {
    match &config.response {
        None => Ok(Bytes::new()),
        Some(source) => Ok(data_source(source).within("response")?.1.into()),
    }
}
