//! Filter chains, and which of them a connection gets.
//!
//! The criteria are tried in Envoy's order (destination port, destination
//! address, server name, transport protocol, application protocols, source),
//! the most specific of each first, and without going back: once a port has
//! matched, chains for all ports are out of the question.

mod prefixes;
mod sources;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use ipnet::IpNet;
use thiserror::Error;
use weft_filter_api::NetworkFilter;
use weft_tls::ServerTls;

use crate::{HttpConnectionManager, Slot, TcpProxy};
use prefixes::Prefixes;
use sources::Sources;

/// `listener.v3.FilterChain`, compiled.
#[derive(Debug)]
pub struct FilterChain {
    /// `name`
    pub name: Arc<str>,
    /// `transport_socket`
    pub transport: TransportSocket,
    /// `transport_socket_connect_timeout`: how long a TLS handshake may take (`None`: 15 s of the caller).
    pub handshake_timeout: Option<Duration>,
    /// The network filters before the terminal one.
    pub network_filters: Vec<Arc<dyn NetworkFilter>>,
    /// The last network filter.
    pub terminal: Terminal,
}

/// How a chain's bytes arrive.
#[derive(Clone, Debug)]
pub enum TransportSocket {
    /// In the clear.
    Raw,
    /// Over TLS; the slot is empty until the secrets are there.
    Tls(Slot<ServerTls>),
}

/// The last network filter of a chain.
#[derive(Clone, Debug)]
pub enum Terminal {
    /// `envoy.filters.network.http_connection_manager`
    Http(Arc<HttpConnectionManager>),
    /// `envoy.filters.network.tcp_proxy`
    Tcp(Arc<TcpProxy>),
    /// `envoy.filters.network.direct_response`: these bytes, and the end.
    Direct(Bytes),
    /// `envoy.filters.network.echo`: what comes goes back.
    Echo,
}

/// What a chain asks of a connection (`FilterChainMatch`); empty fields match all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainMatch {
    /// `destination_port`
    pub destination_port: Option<u16>,
    /// `prefix_ranges`
    pub prefix_ranges: Vec<IpNet>,
    /// `server_names`: exact or `*.suffix`, lower case.
    pub server_names: Vec<String>,
    /// `transport_protocol`
    pub transport_protocol: Option<TransportProtocol>,
    /// `application_protocols`
    pub application_protocols: Vec<String>,
    /// `direct_source_prefix_ranges`: where the socket's peer is, whatever the PROXY protocol says.
    pub direct_sources: Vec<IpNet>,
    /// `source_type`
    pub source_type: SourceType,
    /// `source_prefix_ranges`
    pub sources: Vec<IpNet>,
    /// `source_ports`
    pub source_ports: Vec<u16>,
}

/// `FilterChainMatch.source_type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceType {
    /// `ANY`
    #[default]
    Any,
    /// `SAME_IP_OR_LOOPBACK`
    Local,
    /// `EXTERNAL`: all that is not local.
    External,
}

/// `FilterChainMatch.transport_protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportProtocol {
    /// `raw_buffer`
    Raw,
    /// `tls`
    Tls,
}

/// What is known of a connection when its chain is chosen.
#[derive(Clone, Debug)]
pub struct ChainKey<'a> {
    /// The destination's port.
    pub port: u16,
    /// The destination's address.
    pub ip: IpAddr,
    /// The server name, lower case.
    pub server_name: Option<&'a str>,
    /// What the inspectors saw; raw unless the TLS inspector saw a ClientHello.
    pub transport: TransportProtocol,
    /// In the client's order.
    pub application_protocols: &'a [Arc<str>],
    /// The client.
    pub source: SocketAddr,
    /// The peer of the socket: another one where the PROXY protocol told of the client.
    pub direct_source: IpAddr,
}

/// Two chains that no connection could tell apart.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "filter_chains: {first:?} and {second:?} have the same match; one of them could never be chosen"
)]
pub struct ChainConflict {
    /// Name of the first.
    pub first: String,
    /// Name of the second.
    pub second: String,
}

/// All chains of a listener, indexed.
#[derive(Debug, Default)]
pub struct FilterChainTable {
    ports: HashMap<u16, Addresses>,
    any_port: Option<Addresses>,
    default: Option<Arc<FilterChain>>,
    all: Vec<Arc<FilterChain>>,
}

type Addresses = Prefixes<ServerNames>;

#[derive(Debug, Default)]
struct ServerNames {
    exact: HashMap<String, Transports>,
    /// By suffix with its dot, e.g. `.foo.com`.
    wildcard: HashMap<String, Transports>,
    any: Option<Transports>,
}

#[derive(Debug, Default)]
struct Transports {
    raw: Option<Protocols>,
    tls: Option<Protocols>,
    any: Option<Protocols>,
}

#[derive(Debug, Default)]
struct Protocols {
    named: HashMap<String, Sources>,
    any: Option<Sources>,
}

impl FilterChainTable {
    /// Indexes chains; `default` is for connections that match none.
    ///
    /// # Errors
    /// Two chains have the same match.
    pub fn compile(
        chains: &[(ChainMatch, Arc<FilterChain>)],
        default: Option<Arc<FilterChain>>,
    ) -> Result<Self, ChainConflict> {
        let all =
            chains.iter().map(|(_, chain)| Arc::clone(chain)).chain(default.clone()).collect();
        let mut table = Self { default, all, ..Self::default() };
        for (wanted, chain) in chains {
            table.insert(wanted, chain)?;
        }
        Ok(table)
    }

    /// Every chain, the default one last.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<FilterChain>> {
        self.all.iter()
    }

    /// The chain for a connection.
    #[must_use]
    pub fn find(&self, key: &ChainKey<'_>) -> Option<&Arc<FilterChain>> {
        self.matched(key).or(self.default.as_ref())
    }

    fn matched(&self, key: &ChainKey<'_>) -> Option<&Arc<FilterChain>> {
        let addresses = self.ports.get(&key.port).or(self.any_port.as_ref())?;
        let names = addresses.find(key.ip)?;
        let protocols = names.find(key.server_name)?.find(key.transport)?;
        let named = key.application_protocols.iter().find_map(|name| protocols.named.get(&**name));
        named.or(protocols.any.as_ref())?.find(key)
    }

    fn insert(
        &mut self,
        wanted: &ChainMatch,
        chain: &Arc<FilterChain>,
    ) -> Result<(), ChainConflict> {
        let addresses = match wanted.destination_port {
            Some(port) => self.ports.entry(port).or_default(),
            None => self.any_port.get_or_insert_default(),
        };
        for net in each(&wanted.prefix_ranges) {
            let names = addresses.entry(net);
            for name in each(&wanted.server_names) {
                let transports = names.entry(name.map(String::as_str));
                let protocols = transports.entry(wanted.transport_protocol);
                for protocol in each(&wanted.application_protocols) {
                    protocols.entry(protocol).insert(wanted, chain)?;
                }
            }
        }
        Ok(())
    }
}

/// The items, or once `None` when there are none: an empty criterion matches all.
fn each<T>(items: &[T]) -> impl Iterator<Item = Option<&T>> {
    let none = items.is_empty().then_some(None);
    items.iter().map(Some).chain(none)
}

impl ServerNames {
    fn entry(&mut self, name: Option<&str>) -> &mut Transports {
        match name {
            None => self.any.get_or_insert_default(),
            Some(name) => match name.strip_prefix('*') {
                Some("") => self.any.get_or_insert_default(),
                Some(suffix) => self.wildcard.entry(suffix.to_owned()).or_default(),
                None => self.exact.entry(name.to_owned()).or_default(),
            },
        }
    }

    fn find(&self, name: Option<&str>) -> Option<&Transports> {
        let Some(name) = name else { return self.any.as_ref() };
        if let Some(exact) = self.exact.get(name) {
            return Some(exact);
        }
        let mut rest = name;
        while let Some(dot) = rest.find('.') {
            if let Some(found) = self.wildcard.get(&rest[dot..]) {
                return Some(found);
            }
            rest = &rest[dot + 1..];
        }
        self.any.as_ref()
    }
}

impl Transports {
    fn entry(&mut self, protocol: Option<TransportProtocol>) -> &mut Protocols {
        match protocol {
            None => self.any.get_or_insert_default(),
            Some(TransportProtocol::Raw) => self.raw.get_or_insert_default(),
            Some(TransportProtocol::Tls) => self.tls.get_or_insert_default(),
        }
    }

    fn find(&self, protocol: TransportProtocol) -> Option<&Protocols> {
        let exact = match protocol {
            TransportProtocol::Raw => self.raw.as_ref(),
            TransportProtocol::Tls => self.tls.as_ref(),
        };
        exact.or(self.any.as_ref())
    }
}

impl Protocols {
    fn entry(&mut self, name: Option<&String>) -> &mut Sources {
        match name {
            None => self.any.get_or_insert_default(),
            Some(name) => self.named.entry(name.clone()).or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
