//! The mesh's virtual hosts, made one by one for those who ask.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use weft_control_model::OutboundTrafficPolicy;
use weft_xds_ads::{OnDemand, VersionedResource};
use weft_xds_proto::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

use crate::layer::versioned;
use crate::route_tables::{Groups, asked_host, known_host, table_on_demand, whole_table};
use crate::settings::VirtualAddresses;

/// The most answers that are kept.
const MOST_ANSWERS: usize = 65_536;

/// The routes of the mesh, indexed by port and host, as of one configuration.
pub(crate) struct VirtualHosts {
    by_port: BTreeMap<u16, Groups>,
    addresses: VirtualAddresses,
    hosts: HashMap<IpAddr, String>,
    policy: OutboundTrafficPolicy,
    answers: Mutex<HashMap<String, Arc<VersionedResource>>>,
}

impl Default for VirtualHosts {
    fn default() -> Self {
        let policy = OutboundTrafficPolicy::AllowAny;
        Self::new(BTreeMap::new(), VirtualAddresses::new(), policy)
    }
}

impl VirtualHosts {
    pub(crate) fn new(
        by_port: BTreeMap<u16, Groups>,
        addresses: VirtualAddresses,
        policy: OutboundTrafficPolicy,
    ) -> Self {
        let hosts = addresses.iter().map(|(host, address)| (*address, host.clone())).collect();
        Self { by_port, addresses, hosts, policy, answers: Mutex::default() }
    }

    /// The ports on which there is HTTP.
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        self.by_port.keys().copied()
    }

    /// All tables with all hosts.
    pub(crate) fn whole_tables(&self) -> Vec<RouteConfiguration> {
        let tables = self.by_port.iter();
        tables
            .map(|(port, groups)| whole_table(*port, groups, &self.addresses, self.policy))
            .collect()
    }

    /// All tables, with these hosts alone.
    pub(crate) fn tables_on_demand(&self, hosts: &[String]) -> Vec<RouteConfiguration> {
        let table = |(port, groups): (&u16, &Groups)| {
            let known = hosts.iter().filter_map(|host| known_host(host, groups, &self.addresses));
            table_on_demand(*port, known.collect())
        };
        self.by_port.iter().map(table).collect()
    }

    /// The answer to `<port>/<host>`.
    fn made(&self, name: &str) -> Option<VirtualHost> {
        let (port, asked) = name.split_once('/')?;
        let groups = self.by_port.get(&port.parse().ok()?)?;
        let asked = without_port(asked).to_ascii_lowercase();
        if asked.is_empty() || asked.contains(['*', '/']) {
            return None;
        }
        let address = asked.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let by_address = address.ok().and_then(|address| self.hosts.get(&address));
        let known_as = by_address.map_or_else(|| asked.trim_end_matches('.'), String::as_str);
        Some(asked_host(&asked, known_as, groups, self.policy))
    }
}

impl OnDemand for VirtualHosts {
    fn find(&self, name: &str) -> Option<Arc<VersionedResource>> {
        if let Some(known) = self.answers.lock().get(name) {
            return Some(Arc::clone(known));
        }
        let answer = versioned(&self.made(name)?, None);
        let mut answers = self.answers.lock();
        if answers.len() >= MOST_ANSWERS {
            answers.clear();
        }
        answers.insert(name.to_owned(), Arc::clone(&answer));
        Some(answer)
    }
}

impl fmt::Debug for VirtualHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualHosts").field("ports", &self.by_port.len()).finish_non_exhaustive()
    }
}

/// A host without its port; the colons of an IPv6 address are none.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if host.rfind(']').is_none_or(|bracket| bracket < colon) => &host[..colon],
        _ => host,
    }
}
