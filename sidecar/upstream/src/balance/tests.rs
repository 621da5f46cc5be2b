use std::net::SocketAddr;
use std::sync::Arc;

use weft_model::{Endpoint, HealthFlags, HostState, TransportChoice};

use super::*;
use crate::host::Host;

fn member(port: u16, weight: u32) -> Rc<Member> {
    let address = EndpointAddress::Socket(SocketAddr::from(([127, 0, 0, 1], port)));
    let endpoint = Endpoint { weight, ..Endpoint::at(address.clone()) };
    let state = Arc::new(HostState::new(address, HealthFlags::default()));
    let host = Rc::new(Host::new(TransportChoice(None), state, 0));
    Rc::new(Member { endpoint: Arc::new(endpoint), host, health: Health::Healthy, excluded: false })
}

fn balancer(weights: &[u32], policy: &LoadBalancing) -> Balancer {
    let members = (1..).zip(weights).map(|(port, weight)| member(port, *weight)).collect();
    Balancer { shares: vec![Share { end: 100, group: Group::new(members, policy) }] }
}

fn port(member: &Member) -> u16 {
    match &member.host.address {
        EndpointAddress::Socket(address) => address.port(),
        EndpointAddress::Pipe(_) => 0,
    }
}

fn ports(balancer: &Balancer, cx: &PickContext<'_>, picks: usize) -> Vec<u16> {
    (0..picks).map(|_| port(&balancer.pick(cx).unwrap())).collect()
}

#[test]
fn round_robin_takes_each_in_turn() {
    let balancer = balancer(&[1, 1, 1], &LoadBalancing::RoundRobin);
    let picked = ports(&balancer, &PickContext::default(), 9);
    for window in picked.windows(3) {
        let mut sorted = window.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2, 3]);
    }
}

#[test]
fn weighted_round_robin_is_exact() {
    let balancer = balancer(&[1, 3], &LoadBalancing::RoundRobin);
    let picked = ports(&balancer, &PickContext::default(), 400);
    let heavy = picked.iter().filter(|port| **port == 2).count();
    assert!(heavy.abs_diff(300) <= 1, "{heavy}");
}

#[test]
fn least_request_leaves_a_busy_host_alone() {
    let policy = LoadBalancing::LeastRequest { choices: 10, bias: 1.0 };
    let balancer = balancer(&[1, 1], &policy);
    balancer.shares[0].group.members[0].host.counters.rq_active.inc();
    let picked = ports(&balancer, &PickContext::default(), 100);
    assert!(picked.iter().filter(|port| **port == 2).count() > 95, "{picked:?}");
}

#[test]
fn weighted_least_request_divides_the_weight_by_what_is_active() {
    let policy = LoadBalancing::LeastRequest { choices: 2, bias: 1.0 };
    let balancer = balancer(&[1, 4], &policy);
    let busy = &balancer.shares[0].group.members[1].host;
    for _ in 0..7 {
        busy.counters.rq_active.inc();
    }
    let picked = ports(&balancer, &PickContext::default(), 300);
    let light = picked.iter().filter(|port| **port == 1).count();
    assert!((190..=210).contains(&light), "{light}");
}

#[test]
fn an_avoided_host_is_passed_over() {
    let avoid = [SocketAddr::from(([127, 0, 0, 1], 1))];
    let cx = PickContext { avoid: &avoid, host_attempts: 3, ..PickContext::default() };
    let round_robin = balancer(&[1, 1], &LoadBalancing::RoundRobin);
    assert!(ports(&round_robin, &cx, 10).iter().all(|port| *port == 2));
    let ring = LoadBalancing::RingHash { min_size: 1024, max_size: 1 << 23 };
    let cx = PickContext { hash: Some(7), host_attempts: 20, ..cx };
    assert_eq!(ports(&balancer(&[1, 1], &ring), &cx, 1), [2]);
    let only = balancer(&[1], &LoadBalancing::RoundRobin);
    assert_eq!(ports(&only, &cx, 1), [1], "there is nothing else");
}

#[test]
fn equal_hashes_meet_the_same_host() {
    for policy in [
        LoadBalancing::RingHash { min_size: 1024, max_size: 1 << 23 },
        LoadBalancing::Maglev { table_size: 65_537 },
    ] {
        let balancer = balancer(&[1, 1, 1, 1], &policy);
        let cx = PickContext { hash: Some(0x1234_5678_9abc), ..PickContext::default() };
        let picked = ports(&balancer, &cx, 50);
        assert!(picked.iter().all(|port| *port == picked[0]));
    }
}
