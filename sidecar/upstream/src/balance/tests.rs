use std::net::SocketAddr;
use std::sync::Arc;

use weft_model::{
    Endpoint, Health, HealthFlags, HostState, Labels, LoadBalancing, Locality, Priority, SlowStart,
    SubsetFallback, SubsetSelector, Subsets, TransportChoice, ZoneAware,
};

use super::group::Group;
use super::spread::Place;
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
    let config = Cluster { load_balancing: policy.clone(), ..Cluster::named("test") };
    configured(&config, members)
}

fn configured(config: &Cluster, members: Vec<Rc<Member>>) -> Balancer {
    let endpoints = members.iter().map(|member| Arc::clone(&member.endpoint)).collect();
    let set = EndpointSet {
        priorities: vec![Priority { endpoints, ..Priority::default() }],
        overprovisioning_factor: 140,
        drop: None,
    };
    Balancer::new(config, &set, &[members], None)
}

fn group(balancer: &Balancer) -> &Group {
    match &balancer.all.shares[0].place {
        Place::One(group) => group,
        Place::Localities(_) | Place::Zones(_) => panic!("no localities are weighted"),
    }
}

fn port(member: &Member) -> u16 {
    match &member.host.address {
        EndpointAddress::Socket(address) => address.port(),
        EndpointAddress::Pipe(_) => 0,
    }
}

fn ports(balancer: &Balancer, cx: &PickContext<'_>, picks: usize) -> Vec<u16> {
    (0..picks).map(|_| port(&balancer.pick(cx, 0).unwrap())).collect()
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
    group(&balancer).members[0].host.counters.rq_active.inc();
    let picked = ports(&balancer, &PickContext::default(), 100);
    assert!(picked.iter().filter(|port| **port == 2).count() > 95, "{picked:?}");
}

#[test]
fn weighted_least_request_divides_the_weight_by_what_is_active() {
    let policy = LoadBalancing::LeastRequest { choices: 2, bias: 1.0 };
    let balancer = balancer(&[1, 4], &policy);
    let busy = &group(&balancer).members[1].host;
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

/// A member of a locality with labels; each label is `key=value`.
fn placed(port: u16, zone: &str, labels: &[&str], health: Health) -> Rc<Member> {
    let plain = member(port, 1);
    let labels: Labels = labels
        .iter()
        .filter_map(|label| label.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let endpoint = Endpoint {
        locality: Arc::new(Locality { zone: zone.to_owned(), ..Locality::default() }),
        labels: Some(Arc::new(labels)),
        ..(*plain.endpoint).clone()
    };
    let host = Rc::clone(&plain.host);
    Rc::new(Member { endpoint: Arc::new(endpoint), host, health, excluded: false })
}

fn weighted_zones(members: Vec<Rc<Member>>, weights: &[(&str, u32)]) -> Balancer {
    let mut config = Cluster::named("test");
    config.balancing.locality_weighted = true;
    let weights = weights.iter().map(|(zone, weight)| {
        (Arc::new(Locality { zone: (*zone).to_owned(), ..Locality::default() }), *weight)
    });
    let endpoints = members.iter().map(|member| Arc::clone(&member.endpoint)).collect();
    let set = EndpointSet {
        priorities: vec![Priority { endpoints, weights: weights.collect() }],
        overprovisioning_factor: 140,
        drop: None,
    };
    Balancer::new(&config, &set, &[members], None)
}

#[test]
fn localities_take_their_weights_share_whatever_their_size() {
    let healthy = |port, zone| placed(port, zone, &[], Health::Healthy);
    let members = vec![healthy(1, "a"), healthy(2, "b"), healthy(3, "b"), healthy(4, "c")];
    let balancer = weighted_zones(members, &[("a", 3), ("b", 1)]);
    let picked = ports(&balancer, &PickContext::default(), 400);
    let of = |ports: &[u16]| picked.iter().filter(|port| ports.contains(port)).count();
    assert!(of(&[1]).abs_diff(300) <= 2, "{}", of(&[1]));
    assert!(of(&[2]).abs_diff(of(&[3])) <= 2);
    assert_eq!(of(&[4]), 0, "a locality without a weight gets nothing");
}

#[test]
fn a_locality_loses_weight_with_its_health() {
    let mut members: Vec<_> = (1..=4).map(|at| placed(at, "a", &[], Health::Healthy)).collect();
    members.push(placed(5, "b", &[], Health::Healthy));
    members.extend((6..=8).map(|at| placed(at, "b", &[], Health::Unhealthy)));
    let balancer = weighted_zones(members, &[("a", 1), ("b", 1)]);
    let picked = ports(&balancer, &PickContext::default(), 1350);
    // A quarter of b is healthy: 1.4 times that is its weight, 0.35 to 1.
    let b = picked.iter().filter(|port| **port == 5).count();
    assert!(b.abs_diff(350) <= 10, "{b}");
}

fn versions(fallback: SubsetFallback, own: Option<SubsetFallback>) -> Balancer {
    let mut config = Cluster::named("test");
    let labels = |text: &str| Labels::from([("version".to_owned(), text.to_owned())]);
    config.balancing.subsets = Some(Subsets {
        selectors: vec![
            SubsetSelector {
                keys: vec!["stage".into(), "version".into()],
                fallback: own,
                single_host: false,
            },
            SubsetSelector { keys: vec!["version".into()], fallback: None, single_host: false },
        ],
        fallback,
        default: labels("1"),
        locality_weighted: false,
    });
    let healthy = |port, labels: &[&str]| placed(port, "", labels, Health::Healthy);
    configured(
        &config,
        vec![
            healthy(1, &["version=1", "stage=prod"]),
            healthy(2, &["version=2", "stage=prod"]),
            healthy(3, &["version=2", "stage=dev"]),
            healthy(4, &[]),
        ],
    )
}

fn asked(balancer: &Balancer, labels: &[(&str, &str)]) -> Vec<u16> {
    let labels: Labels =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let cx = PickContext { labels: Some(&labels), ..PickContext::default() };
    let mut found: Vec<_> =
        (0..20).filter_map(|_| balancer.pick(&cx, 0)).map(|member| port(&member)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn a_request_meets_the_subset_that_it_asks_for() {
    let balancer = versions(SubsetFallback::None, None);
    assert_eq!(asked(&balancer, &[("version", "2")]), [2, 3]);
    assert_eq!(asked(&balancer, &[("stage", "dev"), ("version", "2")]), [3]);
    assert_eq!(asked(&balancer, &[("version", "3")]), [0; 0]);
    assert_eq!(asked(&balancer, &[("stage", "dev")]), [0; 0], "no selector has just that key");
    assert!(balancer.pick(&PickContext::default(), 0).is_none());
}

#[test]
fn without_a_subset_the_fallback_decides() {
    let any = versions(SubsetFallback::Any, None);
    assert_eq!(asked(&any, &[("version", "3")]), [1, 2, 3, 4]);
    let default = versions(SubsetFallback::Default, None);
    assert_eq!(asked(&default, &[("version", "3")]), [1]);
    assert_eq!(asked(&default, &[]), [1]);
    let keys = versions(SubsetFallback::None, Some(SubsetFallback::Keys(vec!["version".into()])));
    assert_eq!(asked(&keys, &[("stage", "test"), ("version", "2")]), [2, 3]);
}

#[test]
fn retries_may_leave_canaries_and_labels_out() {
    let config = Cluster::named("test");
    let members = vec![
        placed(1, "", &["canary=true"], Health::Healthy),
        placed(2, "", &["rack=\"a\""], Health::Healthy),
        placed(3, "", &[], Health::Healthy),
    ];
    let balancer = configured(&config, members);
    let rack = Labels::from([("rack".to_owned(), "\"a\"".to_owned())]);
    let cx = PickContext {
        avoid_canaries: true,
        avoid_labels: Some(&rack),
        host_attempts: 3,
        ..PickContext::default()
    };
    assert!(ports(&balancer, &cx, 10).iter().all(|port| *port == 3));
}

#[test]
fn a_busy_host_of_a_ring_passes_work_on() {
    let mut config = Cluster {
        load_balancing: LoadBalancing::RingHash { min_size: 1024, max_size: 1 << 23 },
        ..Cluster::named("test")
    };
    config.balancing.hash_balance = Some(150);
    let balancer = configured(&config, (1..=4).map(|port| member(port, 1)).collect());
    let cx = PickContext { hash: Some(99), ..PickContext::default() };
    let usual = balancer.pick(&cx, 8).unwrap();
    assert!(Rc::ptr_eq(&usual, &balancer.pick(&cx, 8).unwrap()));
    // Eight in flight, one and a half times the average of two: three are enough for one host.
    for _ in 0..3 {
        usual.host.counters.rq_active.inc();
    }
    let other = balancer.pick(&cx, 8).unwrap();
    assert!(!Rc::ptr_eq(&usual, &other));
    assert!(Rc::ptr_eq(&other, &balancer.pick(&cx, 8).unwrap()), "always the same other one");
}

#[test]
fn a_new_host_begins_with_a_part_of_its_weight() {
    let mut config = Cluster::named("test");
    config.balancing.slow_start = Some(SlowStart {
        window: std::time::Duration::from_secs(3600),
        aggression: 1.0,
        min_weight: 0.1,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let old = member(1, 1);
        tokio::time::advance(std::time::Duration::from_secs(3600)).await;
        let balancer = configured(&config, vec![old, member(2, 1)]);
        let picked = ports(&balancer, &PickContext::default(), 220);
        let new = picked.iter().filter(|port| **port == 2).count();
        assert!(new.abs_diff(20) <= 3, "{new}");
    });
}

/// So many endpoints in each zone, from `a` on.
fn zones(counts: &[usize], first_port: u16) -> (EndpointSet, Vec<Rc<Member>>) {
    let mut port = first_port;
    let mut members = Vec::new();
    for (zone, count) in ["a", "b", "c"].iter().zip(counts) {
        let locality = Arc::new(Locality { zone: (*zone).to_owned(), ..Locality::default() });
        for _ in 0..*count {
            port += 1;
            let plain = member(port, 1);
            let endpoint =
                Endpoint { locality: Arc::clone(&locality), ..(*plain.endpoint).clone() };
            members.push(Rc::new(Member {
                endpoint: Arc::new(endpoint),
                host: Rc::clone(&plain.host),
                health: Health::Healthy,
                excluded: false,
            }));
        }
    }
    let endpoints = members.iter().map(|member| Arc::clone(&member.endpoint)).collect();
    let set = EndpointSet {
        priorities: vec![Priority { endpoints, ..Priority::default() }],
        overprovisioning_factor: 140,
        drop: None,
    };
    (set, members)
}

/// How often of 3000 times each zone is chosen by a proxy in zone `a`.
fn chosen_zones(upstream: &[usize], proxies: &[usize], min_size: u64) -> [usize; 3] {
    let mut config = Cluster::named("test");
    config.balancing.zone = Some(ZoneAware {
        enabled: 10_000,
        min_size,
        fail_on_panic: false,
        local_cluster: "proxies".into(),
        locality: Locality { zone: "a".to_owned(), ..Locality::default() },
    });
    let (set, members) = zones(upstream, 0);
    let (local, _) = zones(proxies, 100);
    let balancer = Balancer::new(&config, &set, &[members], Some(&local));
    let mut counts = [0; 3];
    for _ in 0..3000 {
        let picked = balancer.pick(&PickContext::default(), 0).unwrap();
        let zone = picked.endpoint.locality.zone.as_bytes()[0];
        counts[usize::from(zone - b'a')] += 1;
    }
    counts
}

#[test]
fn load_stays_in_the_zone_that_has_its_part_of_the_endpoints() {
    assert_eq!(chosen_zones(&[2, 2, 2], &[1, 1, 1], 6), [3000, 0, 0]);
    assert_eq!(chosen_zones(&[4, 1, 1], &[1, 1, 1], 6), [3000, 0, 0]);
}

#[test]
fn what_exceeds_a_zones_part_goes_where_there_is_room() {
    // A third of the proxies, a sixth of the endpoints: half of the load stays.
    let [a, b, c] = chosen_zones(&[1, 4, 1], &[1, 1, 1], 6);
    assert!((1300..1700).contains(&a) && b > 1300 && c == 0, "{a} {b} {c}");
}

#[test]
fn zones_say_nothing_about_few_endpoints_and_unknown_places() {
    let spread = |counts: [usize; 3]| counts.iter().all(|count| *count > 300);
    assert!(spread(chosen_zones(&[2, 2, 2], &[1, 1, 1], 7)), "too few endpoints");
    assert!(spread(chosen_zones(&[2, 2, 2], &[0, 1, 1], 6)), "nobody is known to be here");
    assert_eq!(chosen_zones(&[0, 3, 3], &[1, 1, 1], 6)[0], 0);
}
