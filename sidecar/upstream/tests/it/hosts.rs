//! Which endpoint a request goes to.

use std::net::SocketAddr;
use std::sync::Arc;

use weft_model::{Cluster, Discovery, EndpointSet, LoadBalancing};
use weft_upstream::{PickContext, UpstreamError};

use crate::servers::Server;
use crate::support::{cluster, endpoint_set, local, worker};

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn a_cluster_without_endpoints_has_no_healthy_upstream() {
    local(async {
        let handle = cluster(&[], |_| {});
        let (_worker, cluster) = worker(&handle);
        let error = cluster.pick(&PickContext::default()).unwrap_err();
        assert!(matches!(error, UpstreamError::NoHealthyUpstream));
        assert_eq!(handle.stats().cx_none_healthy.value(), 1);
    });
}

#[test]
fn new_endpoints_are_seen_at_the_next_choice() {
    local(async {
        let handle = cluster(&[address(1)], |_| {});
        let (_worker, cluster) = worker(&handle);
        let pick = || cluster.pick(&PickContext::default()).unwrap().address().unwrap();
        assert_eq!(pick(), address(1));
        handle.set_endpoints(Arc::new(endpoint_set(&[address(2)])));
        assert_eq!(pick(), address(2));
        handle.set_endpoints(Arc::new(EndpointSet::default()));
        assert!(cluster.pick(&PickContext::default()).is_err());
    });
}

#[test]
fn round_robin_is_exact() {
    local(async {
        let addresses: Vec<_> = (1..=3).map(address).collect();
        let handle = cluster(&addresses, |_| {});
        let (_worker, cluster) = worker(&handle);
        let mut counts = [0; 3];
        for _ in 0..300 {
            let picked = cluster.pick(&PickContext::default()).unwrap();
            counts[usize::from(picked.address().unwrap().port()) - 1] += 1;
        }
        assert_eq!(counts, [100, 100, 100]);
    });
}

#[test]
fn equal_hashes_stay_with_their_host_when_another_one_goes() {
    local(async {
        let addresses: Vec<_> = (1..=10).map(address).collect();
        let handle = cluster(&addresses, |cluster| {
            cluster.load_balancing = LoadBalancing::RingHash { min_size: 4096, max_size: 1 << 23 };
        });
        let (_worker, cluster) = worker(&handle);
        let pick = |hash: u64| {
            let hash = Some(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let cx = PickContext { hash, ..PickContext::default() };
            cluster.pick(&cx).unwrap().address().unwrap()
        };
        let before: Vec<_> = (0..1000).map(pick).collect();
        handle.set_endpoints(Arc::new(endpoint_set(&addresses[..9])));
        let after: Vec<_> = (0..1000).map(pick).collect();
        let pairs = before.iter().zip(&after);
        let moved = pairs.filter(|(before, after)| before != after && before.port() != 10).count();
        // The ring keeps its size, so that each of the others has a tenth more points than before.
        assert!(moved < 130, "{moved} hashes of other hosts moved");
    });
}

fn original_dst(port: Option<u16>) -> impl FnOnce(&mut Cluster) {
    move |cluster| {
        let header = Some(http::HeaderName::from_static("x-envoy-original-dst-host"));
        cluster.discovery = Discovery::OriginalDst { port, header };
        cluster.load_balancing = LoadBalancing::ClusterProvided;
    }
}

#[test]
fn the_original_destination_is_where_the_client_wanted_to_go() {
    local(async {
        let handle = cluster(&[], original_dst(None));
        let (_worker, cluster) = worker(&handle);
        let cx = PickContext { original_destination: Some(address(7)), ..PickContext::default() };
        assert_eq!(cluster.pick(&cx).unwrap().address(), Some(address(7)));
        let cx = PickContext { host_header: Some(address(8)), ..cx };
        assert_eq!(cluster.pick(&cx).unwrap().address(), Some(address(8)));
        assert!(cluster.pick(&PickContext::default()).is_err(), "no destination, no host");
        let handle = self::cluster(&[], original_dst(Some(9)));
        let (_worker, cluster) = worker(&handle);
        let cx = PickContext { original_destination: Some(address(7)), ..PickContext::default() };
        assert_eq!(cluster.pick(&cx).unwrap().address(), Some(address(9)));
    });
}

#[test]
fn connections_start_from_the_configured_source() {
    local(async {
        let server = Server::http1().await;
        let handle = self::cluster(&[], |cluster| {
            original_dst(None)(cluster);
            cluster.bind = vec![[127, 0, 0, 6].into(), "::6".parse().unwrap()];
        });
        let (_worker, cluster) = worker(&handle);
        let original_destination = Some(server.address);
        let cx = PickContext { original_destination, ..PickContext::default() };
        let picked = cluster.pick(&cx).unwrap();
        let answer = cluster.send(&picked, crate::support::get("/")).await.unwrap();
        assert_eq!(answer.local.unwrap().ip().to_string(), "127.0.0.6");
        assert_eq!(answer.remote, Some(server.address));
    });
}

#[test]
fn a_part_of_the_requests_is_dropped_where_the_control_plane_says_so() {
    local(async {
        let handle = cluster(&[address(1)], |_| {});
        let mut set = endpoint_set(&[address(1)]);
        set.drop = Some(weft_route::Fraction { numerator: 100, denominator: 100 });
        handle.set_endpoints(Arc::new(set));
        let (_worker, cluster) = worker(&handle);
        let error = cluster.pick(&PickContext::default()).unwrap_err();
        assert!(matches!(error, UpstreamError::DropOverload));
        assert_eq!(handle.stats_scope().counter("upstream_rq_drop_overload").value(), 1);
    });
}
