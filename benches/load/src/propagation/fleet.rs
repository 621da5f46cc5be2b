//! Many proxies in one process: real connections and the real protocol, with nothing behind them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use weft_xds_client::{
    ClientConfig, ClientHandle, Node, Rejection, ResourceHandler, ResourceType, ResourceUpdate,
    Subscription, TcpTransport, Variant, spawn,
};
use weft_xds_proto::pb::google::protobuf::{Struct, Value, value::Kind};

/// Stands before the version in what a route leads to.
pub(super) const MARK: &str = "/version-";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A version of a host that a member was told of.
struct Told {
    member: usize,
    host: String,
    version: u64,
    at: Instant,
}

/// The proxies. They leave when this is dropped.
pub(super) struct Fleet {
    runtime: Runtime,
    members: Vec<ClientHandle>,
    sender: Sender<Told>,
    told: Receiver<Told>,
    /// The newest version of each host that each member was told of.
    held: Vec<BTreeMap<String, u64>>,
    /// How often somebody was told of a host.
    pushes: BTreeMap<String, u64>,
}

impl Fleet {
    pub(super) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("fleet")
            .enable_all()
            .build()?;
        let (sender, told) = channel();
        let (members, held, pushes) = (Vec::new(), Vec::new(), BTreeMap::new());
        Ok(Self { runtime, members, sender, told, held, pushes })
    }

    /// One more proxy that has asked for these hosts.
    pub(super) fn join(&mut self, control_plane: SocketAddr, hosts: Vec<String>) {
        let member = self.members.len();
        let names = hosts.iter().map(|host| format!("80/{host}")).collect::<Vec<_>>();
        let handler = Member { member, names, told: self.sender.clone() };
        let config = ClientConfig::new(node(member), Variant::Delta);
        let transport = Arc::new(TcpTransport::new(control_plane));
        let _runtime = self.runtime.enter();
        self.members.push(spawn(config, transport, Box::new(handler)));
        self.held.push(hosts.into_iter().map(|host| (host, 0)).collect());
    }

    /// How often anybody was told of these hosts.
    pub(super) fn pushes(&self, hosts: impl Iterator<Item = String>) -> u64 {
        hosts.filter_map(|host| self.pushes.get(&host)).sum()
    }

    /// Waits until everybody who asked for one of these hosts has its version or a newer one; when
    /// the last of them was told.
    pub(super) fn wait(&mut self, expected: &BTreeMap<String, u64>) -> Result<Instant> {
        let begun = Instant::now();
        let mut last = begun;
        let mut missing: usize = self.held.iter().map(|held| behind(held, expected)).sum();
        while missing > 0 {
            let left = PATIENCE.checked_sub(begun.elapsed());
            let left = left.with_context(|| format!("{missing} versions are never told"))?;
            let Ok(told) = self.told.recv_timeout(left) else { continue };
            *self.pushes.entry(told.host.clone()).or_default() += 1;
            let held = &mut self.held[told.member];
            let newest = held.entry(told.host.clone()).or_default();
            let before = *newest;
            *newest = told.version;
            if let Some(&wanted) = expected.get(&told.host)
                && before < wanted
                && told.version >= wanted
            {
                missing -= 1;
                last = told.at;
            }
            ensure!(told.version >= before, "{}: {before} came after a newer one", told.host);
        }
        Ok(last)
    }
}

/// How many of the expected versions are not held.
fn behind(held: &BTreeMap<String, u64>, expected: &BTreeMap<String, u64>) -> usize {
    expected
        .iter()
        .filter(|(host, wanted)| held.get(*host).is_some_and(|held| held < wanted))
        .count()
}

/// A sidecar as it describes itself.
fn node(member: usize) -> Node {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = [
        ("NAMESPACE", "bench"),
        ("SERVICE_ACCOUNT", "bench"),
        ("INSTANCE_IPS", "127.0.0.1"),
        ("weft.dev/discovery", "on-demand"),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), text(value)));
    Node {
        id: format!("sidecar~127.0.0.1~bench-{member}.bench~bench.svc.cluster.local"),
        cluster: "bench.bench".to_owned(),
        metadata: Some(Struct { fields: fields.collect() }),
        ..Node::default()
    }
}

/// Notes what it is told of and takes everything.
struct Member {
    member: usize,
    names: Vec<String>,
    told: Sender<Told>,
}

impl ResourceHandler for Member {
    fn subscriptions(&self) -> Vec<(ResourceType, Subscription)> {
        vec![
            (ResourceType::Cluster, Subscription::Wildcard),
            (ResourceType::Listener, Subscription::Wildcard),
            (ResourceType::Route, Subscription::names(["80"])),
            (ResourceType::VirtualHost, Subscription::names(self.names.iter())),
        ]
    }

    fn wants_changed(&mut self) -> bool {
        false
    }

    fn apply(&mut self, update: ResourceUpdate) -> Vec<Rejection> {
        if update.resource_type == ResourceType::VirtualHost {
            let at = Instant::now();
            for resource in update.added {
                let Some(version) = version(&resource.body.value) else { continue };
                let host = resource.name.trim_start_matches("80/").to_owned();
                // The receiver ends last.
                let _ = self.told.send(Told { member: self.member, host, version, at });
            }
        }
        Vec::new()
    }
}

/// The number behind the mark.
pub(super) fn version(text: &[u8]) -> Option<u64> {
    let begin = memchr::memmem::find(text, MARK.as_bytes())? + MARK.len();
    let digits = text[begin..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |sum, digit| Some(sum.unwrap_or(0) * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_behind_its_mark() {
        assert_eq!(version(b"x/version-120\x01"), Some(120));
        assert_eq!(version(b"/version-"), None);
        assert_eq!(version(b"/elsewhere-1"), None);
    }

    #[test]
    fn only_hosts_that_were_asked_for_can_be_behind() {
        let held = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 3)]);
        let expected = [("a", 2), ("b", 3), ("c", 9)];
        let expected = expected.map(|(host, version)| (host.to_owned(), version)).into();
        assert_eq!(behind(&held, &expected), 1);
    }
}
