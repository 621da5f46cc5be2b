//! The snapshot as a whole, and how it is published.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hashbrown::HashMap as FastMap;
use tokio::sync::watch;

use crate::{ClusterHandle, ListenAddress, Listener};

/// Clusters by name. Clones share structure: a change costs what it touches, however many there
/// are.
pub type ClusterHandles = rpds::HashTrieMapSync<Arc<str>, Arc<ClusterHandle>>;

/// Everything that is served at one moment: warm listeners and clusters.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts publications.
    pub version: u64,
    /// Listeners by name.
    pub listeners: HashMap<Arc<str>, Arc<Listener>>,
    /// Clusters by name.
    pub clusters: ClusterHandles,
    /// Clusters that serve when the first check of each of their hosts has ended.
    pub warming: Vec<Arc<ClusterHandle>>,
    /// Listeners by address, for `use_original_dst`.
    pub hand_off: HandOff,
}

impl Snapshot {
    /// The clusters that serve, and those that will.
    pub fn watched_clusters(&self) -> impl Iterator<Item = &Arc<ClusterHandle>> {
        self.clusters.values().chain(&self.warming)
    }
}

/// Finds the listener that a redirected connection belongs to.
#[derive(Debug, Default)]
pub struct HandOff(FastMap<SocketAddr, Arc<Listener>>);

impl HandOff {
    /// Indexes every listener by its addresses.
    #[must_use]
    pub fn new<'a>(listeners: impl Iterator<Item = &'a Arc<Listener>>) -> Self {
        let mut table = FastMap::new();
        for listener in listeners {
            for address in &listener.addresses {
                if let ListenAddress::Socket(address) = address {
                    table.insert(*address, Arc::clone(listener));
                }
            }
        }
        Self(table)
    }

    /// The listener for a destination: of the exact address, else of the wildcard address and port.
    #[must_use]
    pub fn find(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        let any: IpAddr = match destination.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let wildcard = SocketAddr::new(any, destination.port());
        self.0.get(&destination).or_else(|| self.0.get(&wildcard))
    }
}

/// Where snapshots are published.
#[derive(Debug)]
pub struct SnapshotPublisher(watch::Sender<Arc<Snapshot>>);

/// Where snapshots are seen; each worker has one.
pub type SnapshotWatch = watch::Receiver<Arc<Snapshot>>;

impl SnapshotPublisher {
    /// A publisher of an empty snapshot.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(Arc::new(Snapshot::default())))
    }

    /// A new watch on what is published.
    #[must_use]
    pub fn watch(&self) -> SnapshotWatch {
        self.0.subscribe()
    }

    /// Publishes a snapshot; its version is set.
    pub fn publish(&self, mut snapshot: Snapshot) {
        self.0.send_modify(|current| {
            snapshot.version = current.version + 1;
            *current = Arc::new(snapshot);
        });
    }
}

impl Default for SnapshotPublisher {
    fn default() -> Self {
        Self::new()
    }
}
