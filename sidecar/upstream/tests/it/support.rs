//! Servers that count what arrives, clusters that point to them, and a worker's runtime.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tokio::runtime::{Builder, LocalOptions};
use weft_model::{
    Cluster, ClusterHandle, Endpoint, EndpointAddress, EndpointSet, Priority, Snapshot,
    SnapshotPublisher,
};
use weft_telemetry::Registry;
use weft_upstream::{PickContext, RequestBody, UpstreamResponse, Upstreams, WorkerCluster};

/// Runs a test as a worker runs.
pub(crate) fn local<F: Future<Output = ()>>(test: F) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test ends in time");
    });
}

/// A static cluster with these endpoints; `change` adjusts it.
pub(crate) fn cluster(
    endpoints: &[SocketAddr],
    change: impl FnOnce(&mut Cluster),
) -> Arc<ClusterHandle> {
    let mut cluster = Cluster::named("test");
    change(&mut cluster);
    let endpoints = endpoint_set(endpoints);
    Arc::new(ClusterHandle::new(Arc::new(cluster), Arc::new(endpoints), Registry::new()))
}

/// Healthy endpoints of one priority.
pub(crate) fn endpoint_set(addresses: &[SocketAddr]) -> EndpointSet {
    let endpoint = |address: &SocketAddr| Arc::new(Endpoint::at(EndpointAddress::Socket(*address)));
    let endpoints = addresses.iter().map(endpoint).collect();
    EndpointSet {
        priorities: vec![Priority { endpoints, ..Priority::default() }],
        overprovisioning_factor: 140,
        ..EndpointSet::default()
    }
}

/// Publishes a cluster; keep the publisher as long as the snapshot is followed.
pub(crate) fn serving(handle: &Arc<ClusterHandle>) -> SnapshotPublisher {
    let publisher = SnapshotPublisher::new();
    let mut snapshot = Snapshot::default();
    snapshot.clusters.insert_mut(Arc::clone(handle.name()), Arc::clone(handle));
    publisher.publish(snapshot);
    publisher
}

/// One worker's view of a cluster; keep the worker as long as the cluster is used.
pub(crate) fn worker(handle: &Arc<ClusterHandle>) -> (Rc<Upstreams>, Rc<WorkerCluster>) {
    let upstreams = Upstreams::new(SnapshotPublisher::new().watch(), 1);
    let cluster = upstreams.cluster(handle);
    (upstreams, cluster)
}

/// A GET request.
pub(crate) fn get(path: &str) -> Request<RequestBody> {
    Request::builder().uri(path).header("host", "test").body(RequestBody::Empty).expect("a request")
}

/// Sends a GET request and reads the whole response: whether the connection was used before, and
/// the body.
pub(crate) async fn fetch(cluster: &WorkerCluster, path: &str) -> (bool, String) {
    let picked = cluster.pick(&PickContext::default()).expect("an endpoint");
    let answer = cluster.send(&picked, get(path)).await.expect("an answer");
    (answer.reused, read(answer).await)
}

/// Reads the whole body.
pub(crate) async fn read(answer: Box<UpstreamResponse>) -> String {
    let body = answer.body.collect().await.expect("the body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

/// Waits until something is so.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let mut pause = tokio::time::interval(Duration::from_millis(1));
    while !condition() {
        pause.tick().await;
    }
}

/// Lets time pass at once, for timers only.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    for _ in 0..time.as_secs() {
        // A little more, since timers round up.
        tokio::time::advance(Duration::from_millis(1010)).await;
        tokio::task::yield_now().await;
    }
    tokio::time::resume();
}
