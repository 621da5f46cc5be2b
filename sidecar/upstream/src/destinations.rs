//! Hosts of ORIGINAL_DST clusters: made when a client wants to go there, forgotten when unused.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use weft_model::{Cluster, Endpoint, EndpointAddress, Health, Locality};

use crate::cluster::ClusterCx;
use crate::host::{Host, Member};

/// Ticks for which an unused destination without connections is remembered
/// (`Cluster.cleanup_interval`, 5 s).
const REMEMBERED: u32 = 5;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    members: RefCell<HashMap<SocketAddr, Rc<Member>, RandomState>>,
}

impl Destinations {
    /// The member for a destination.
    pub(crate) fn member(
        &self,
        address: SocketAddr,
        config: &Cluster,
        cluster: &ClusterCx,
    ) -> Rc<Member> {
        let mut members = self.members.borrow_mut();
        let member = members.entry(address).or_insert_with(|| Rc::new(new_member(address, config)));
        member.host.last_used.set(cluster.worker.now());
        Rc::clone(member)
    }

    pub(crate) fn retire_all(&self) {
        for member in self.members.take().values() {
            member.host.retire();
        }
    }

    pub(crate) fn sweep(&self, now: u32) {
        self.members.borrow_mut().retain(|_, member| {
            let connected = member.host.sweep(now);
            let unused = now.saturating_sub(member.host.last_used.get()) > REMEMBERED;
            connected || member.host.active.get() > 0 || !unused
        });
    }
}

fn new_member(address: SocketAddr, config: &Cluster) -> Member {
    let socket_labels = BTreeMap::new();
    let transport = config.choose_socket(&socket_labels);
    let address = EndpointAddress::Socket(address);
    let endpoint = Endpoint {
        address: address.clone(),
        hostname: None,
        weight: 1,
        health: Health::Healthy,
        locality: Arc::new(Locality::default()),
        socket_labels,
        hash_key: None,
        transport,
    };
    let host = Rc::new(Host::new(address, transport));
    Member { endpoint: Arc::new(endpoint), host }
}
