//! Hosts of ORIGINAL_DST clusters: made when a client wants to go there, forgotten when unused.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use weft_model::{Endpoint, EndpointAddress, Health, HealthFlags, HostState, TransportChoice};

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
    /// The member for a destination; `transport` says how to speak to a new one.
    pub(crate) fn member(
        &self,
        address: SocketAddr,
        now: u32,
        transport: impl FnOnce() -> TransportChoice,
    ) -> Rc<Member> {
        let mut members = self.members.borrow_mut();
        let member =
            members.entry(address).or_insert_with(|| Rc::new(new_member(address, transport())));
        member.host.last_used.set(now);
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
            connected || member.host.active() > 0 || !unused
        });
    }
}

fn new_member(address: SocketAddr, transport: TransportChoice) -> Member {
    let address = EndpointAddress::Socket(address);
    let endpoint = Endpoint { transport, ..Endpoint::at(address.clone()) };
    let state = Arc::new(HostState::new(address, HealthFlags::default()));
    let host = Rc::new(Host::new(transport, state, 0));
    Member { endpoint: Arc::new(endpoint), host, health: Health::Healthy, excluded: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_forgotten_when_nobody_goes_there_any_more() {
        let destinations = Destinations::default();
        let go = |port, now| {
            let address = SocketAddr::from(([10, 0, 0, 1], port));
            destinations.member(address, now, TransportChoice::default)
        };
        let first = go(1, 0);
        assert!(Rc::ptr_eq(&first, &go(1, 0)));
        for port in 2..1000 {
            go(port, 0);
        }
        let busy = go(1000, 0);
        busy.host.counters.rq_active.inc();
        go(1, 3);
        destinations.sweep(6);
        assert_eq!(destinations.members.borrow().len(), 2, "the used one and the busy one");
        busy.host.counters.rq_active.dec();
        destinations.sweep(9);
        assert_eq!(destinations.members.borrow().len(), 0);
    }
}
