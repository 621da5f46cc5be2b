//! The mesh's virtual hosts, made one by one for those who ask.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rpds::HashTrieMapSync;
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
    addresses: Arc<VirtualAddresses>,
    hosts: Arc<HashMap<IpAddr, String>>,
    policy: OutboundTrafficPolicy,
    answers: Mutex<Answers>,
}

/// Answers that were made. A clone costs nothing.
#[derive(Clone)]
struct Answers {
    by_name: HashTrieMapSync<String, Arc<VersionedResource>>,
    /// The names that were asked for, by the host that they are known as.
    names: HashTrieMapSync<String, Vec<String>>,
}

impl Default for Answers {
    fn default() -> Self {
        Self { by_name: HashTrieMapSync::new_sync(), names: HashTrieMapSync::new_sync() }
    }
}

impl Answers {
    fn keep(&mut self, host: &str, name: &str, answer: Arc<VersionedResource>) {
        if self.by_name.size() >= MOST_ANSWERS {
            *self = Self::default();
        }
        self.by_name.insert_mut(name.to_owned(), answer);
        let mut names = self.names.get(host).cloned().unwrap_or_default();
        names.push(name.to_owned());
        self.names.insert_mut(host.to_owned(), names);
    }

    fn forget(&mut self, host: &str) {
        for name in self.names.get(host).into_iter().flatten() {
            self.by_name.remove_mut(name);
        }
        self.names.remove_mut(host);
    }
}

impl Default for VirtualHosts {
    fn default() -> Self {
        let policy = OutboundTrafficPolicy::AllowAny;
        Self::new(BTreeMap::new(), Arc::default(), policy)
    }
}

impl VirtualHosts {
    pub(crate) fn new(
        by_port: BTreeMap<u16, Groups>,
        addresses: Arc<VirtualAddresses>,
        policy: OutboundTrafficPolicy,
    ) -> Self {
        let hosts = addresses.iter().map(|(host, address)| (*address, host.clone())).collect();
        Self { by_port, addresses, hosts: Arc::new(hosts), policy, answers: Mutex::default() }
    }

    /// The same after a change of the routes of `hosts` alone.
    pub(crate) fn with(
        &self,
        by_port: BTreeMap<u16, Groups>,
        hosts: impl Iterator<Item = String>,
    ) -> Self {
        let mut answers = self.answers.lock().clone();
        hosts.for_each(|host| answers.forget(&host));
        Self {
            by_port,
            addresses: Arc::clone(&self.addresses),
            hosts: Arc::clone(&self.hosts),
            policy: self.policy,
            answers: Mutex::new(answers),
        }
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

    /// The answer to `<port>/<host>`, with the host that it is known as.
    fn made(&self, name: &str) -> Option<(String, VirtualHost)> {
        let (port, asked) = name.split_once('/')?;
        let groups = self.by_port.get(&port.parse().ok()?)?;
        let asked = without_port(asked).to_ascii_lowercase();
        if asked.is_empty() || asked.contains(['*', '/']) {
            return None;
        }
        let address = asked.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let by_address = address.ok().and_then(|address| self.hosts.get(&address));
        let known_as = by_address.map_or_else(|| asked.trim_end_matches('.'), String::as_str);
        Some((known_as.to_owned(), asked_host(&asked, known_as, groups, self.policy)))
    }
}

impl OnDemand for VirtualHosts {
    fn find(&self, name: &str) -> Option<Arc<VersionedResource>> {
        if let Some(known) = self.answers.lock().by_name.get(name) {
            return Some(Arc::clone(known));
        }
        let (host, answer) = self.made(name)?;
        let answer = versioned(&answer, None);
        self.answers.lock().keep(&host, name, Arc::clone(&answer));
        Some(answer)
    }
}

impl fmt::Debug for VirtualHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualHosts").field("ports", &self.by_port.len()).finish_non_exhaustive()
    }
}

/// The host that a virtual host is asked for by, `<port>/<host>`, as [`Moved`](crate::Moved) tells
/// of it: in lower case, without a port, brackets and a final dot.
pub fn host_asked(name: &str) -> Option<String> {
    let host = without_port(name.split_once('/')?.1);
    let host = host.trim_end_matches('.').trim_start_matches('[').trim_end_matches(']');
    Some(host.to_ascii_lowercase())
}

/// A host without its port; the colons of an IPv6 address are none.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if host.rfind(']').is_none_or(|bracket| bracket < colon) => &host[..colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_however_it_is_asked_for() {
        for name in ["80/A.demo", "80/a.demo.", "8080/a.demo:80"] {
            assert_eq!(host_asked(name).as_deref(), Some("a.demo"), "{name}");
        }
        assert_eq!(host_asked("80/[fd00::1]:80").as_deref(), Some("fd00::1"));
        assert_eq!(host_asked("80"), None);
    }
}
