//! The last criteria: where a connection comes from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::HashMap;

use super::prefixes::Prefixes;
use super::{ChainConflict, ChainKey, ChainMatch, FilterChain, SourceType, each};

/// Chains by where connections come from.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// By the socket's peer.
    direct: Prefixes<Kinds>,
}

#[derive(Debug, Default)]
struct Kinds {
    local: Option<Prefixes<Ports>>,
    external: Option<Prefixes<Ports>>,
    any: Option<Prefixes<Ports>>,
}

#[derive(Debug, Default)]
struct Ports {
    exact: HashMap<u16, Arc<FilterChain>>,
    any: Option<Arc<FilterChain>>,
}

impl Sources {
    pub(super) fn insert(
        &mut self,
        wanted: &ChainMatch,
        chain: &Arc<FilterChain>,
    ) -> Result<(), ChainConflict> {
        for direct in each(&wanted.direct_sources) {
            let kinds = self.direct.entry(direct);
            let prefixes = match wanted.source_type {
                SourceType::Local => kinds.local.get_or_insert_default(),
                SourceType::External => kinds.external.get_or_insert_default(),
                SourceType::Any => kinds.any.get_or_insert_default(),
            };
            for net in each(&wanted.sources) {
                let ports = prefixes.entry(net);
                for port in each(&wanted.source_ports) {
                    ports.insert(port, chain)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn find(&self, key: &ChainKey<'_>) -> Option<&Arc<FilterChain>> {
        let kinds = self.direct.find(key.direct_source)?;
        let ports = kinds.find(key.source.ip(), key.ip)?.find(key.source.ip())?;
        ports.exact.get(&key.source.port()).or(ports.any.as_ref())
    }
}

impl Kinds {
    fn find(&self, source: IpAddr, destination: IpAddr) -> Option<&Prefixes<Ports>> {
        // As Envoy: of the loopback addresses only the first.
        let loopback = source == Ipv4Addr::LOCALHOST || source == Ipv6Addr::LOCALHOST;
        let of_kind = match loopback || source == destination {
            true => self.local.as_ref(),
            false => self.external.as_ref(),
        };
        of_kind.or(self.any.as_ref())
    }
}

impl Ports {
    fn insert(
        &mut self,
        port: Option<&u16>,
        chain: &Arc<FilterChain>,
    ) -> Result<(), ChainConflict> {
        let before = match port {
            None => self.any.replace(Arc::clone(chain)),
            Some(port) => self.exact.insert(*port, Arc::clone(chain)),
        };
        match before {
            None => Ok(()),
            Some(first) => {
                Err(ChainConflict { first: first.name.to_string(), second: chain.name.to_string() })
            }
        }
    }
}
