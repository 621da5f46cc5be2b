//! Aggregate clusters.

use std::rc::Rc;
use std::sync::Arc;

use weft_model::{
    Cluster, ClusterHandle, Discovery, EndpointSet, HealthFlags, Snapshot, SnapshotPublisher,
};
use weft_telemetry::Registry;
use weft_upstream::{PickContext, UpstreamError, Upstreams};

use crate::servers::Server;
use crate::support::{endpoint_set, get, local, read};

fn handle(name: &str, endpoints: EndpointSet, discovery: Discovery) -> Arc<ClusterHandle> {
    let cluster = Cluster { discovery, ..Cluster::named(name) };
    Arc::new(ClusterHandle::new(Arc::new(cluster), Arc::new(endpoints), Registry::new()))
}

fn aggregate(clusters: &[&str]) -> Discovery {
    Discovery::Aggregate(clusters.iter().map(|name| Arc::from(*name)).collect())
}

fn serving(handles: &[Arc<ClusterHandle>]) -> (SnapshotPublisher, Rc<Upstreams>) {
    let publisher = SnapshotPublisher::new();
    let mut snapshot = Snapshot::default();
    for handle in handles {
        snapshot.clusters.insert_mut(Arc::clone(handle.name()), Arc::clone(handle));
    }
    publisher.publish(snapshot);
    let upstreams = Upstreams::new(publisher.watch(), 1);
    (publisher, upstreams)
}

fn fail(handle: &ClusterHandle, failed: bool) {
    for state in handle.host_states(&handle.endpoints()) {
        let flag = HealthFlags::FAILED_ACTIVE;
        if failed {
            state.change_flags(flag, 0)
        } else {
            state.change_flags(0, flag)
        };
    }
    handle.health_changed();
}

#[test]
fn the_first_cluster_that_can_serves_and_counts() {
    local(async {
        let (first, second) = (Server::http1().await, Server::http1().await);
        let one = handle("one", endpoint_set(&[first.address]), Discovery::Static);
        let two = handle("two", endpoint_set(&[second.address]), Discovery::Static);
        let whole = handle("all", EndpointSet::default(), aggregate(&["missing", "one", "two"]));
        let all = [Arc::clone(&one), Arc::clone(&two), Arc::clone(&whole)];
        let (_publisher, upstreams) = serving(&all);
        let cluster = upstreams.cluster(&whole);
        let ask = async || {
            let picked = cluster.pick(&PickContext::default()).unwrap();
            let answer = cluster.send(&picked, get("/")).await.unwrap();
            read(answer).await;
            picked.address()
        };
        assert_eq!(ask().await, Some(first.address));
        fail(&one, true);
        assert_eq!(ask().await, Some(second.address));
        fail(&one, false);
        assert_eq!(ask().await, Some(first.address));
        let counted = |handle: &ClusterHandle| handle.stats().rq_total.value();
        assert_eq!((counted(&one), counted(&two), counted(&whole)), (2, 1, 0));
        assert_eq!(
            (first.accepted.get(), second.accepted.get()),
            (1, 1),
            "pools are the clusters'"
        );
    });
}

#[test]
fn aggregates_stand_in_aggregates_and_never_in_themselves() {
    local(async {
        let address = "127.0.0.1:9".parse().unwrap();
        let one = handle("one", endpoint_set(&[address]), Discovery::Static);
        let inner = handle("inner", EndpointSet::default(), aggregate(&["one"]));
        let outer = handle("outer", EndpointSet::default(), aggregate(&["inner"]));
        let ring = handle("ring", EndpointSet::default(), aggregate(&["ring", "gnir"]));
        let back = handle("gnir", EndpointSet::default(), aggregate(&["ring", "one"]));
        let alone = handle("alone", EndpointSet::default(), aggregate(&["alone"]));
        let all = [one, inner, Arc::clone(&outer), Arc::clone(&ring), back, Arc::clone(&alone)];
        let (_publisher, upstreams) = serving(&all);
        let picked = upstreams.cluster(&outer).pick(&PickContext::default()).unwrap();
        assert_eq!(picked.address(), Some(address));
        let picked = upstreams.cluster(&ring).pick(&PickContext::default()).unwrap();
        assert_eq!(picked.address(), Some(address));
        let nowhere = upstreams.cluster(&alone).pick(&PickContext::default()).unwrap_err();
        assert!(matches!(nowhere, UpstreamError::NoHealthyUpstream), "{nowhere}");
    });
}
