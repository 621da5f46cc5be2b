//! Hosts that outlier detection takes out of use, over real sockets.

use std::sync::Arc;

use http::StatusCode;
use weft_model::{Cluster, OutlierDetection};
use weft_upstream::{PickContext, WorkerCluster, spawn_health};

use crate::servers::{Server, nobody};
use crate::support::{cluster, get, local, read, serving, until, worker};

fn detecting(change: impl FnOnce(&mut OutlierDetection)) -> impl FnOnce(&mut Cluster) {
    let mut outlier = OutlierDetection { max_percent: 50, ..OutlierDetection::default() };
    change(&mut outlier);
    move |cluster| cluster.outlier = Some(Arc::new(outlier))
}

async fn send(cluster: &WorkerCluster) -> Option<std::net::SocketAddr> {
    let picked = cluster.pick(&PickContext::default()).expect("an endpoint");
    if let Ok(answer) = cluster.send(&picked, get("/")).await {
        read(answer).await;
    }
    picked.address()
}

#[test]
fn a_host_that_refuses_connections_is_ejected() {
    local(async {
        let good = Server::http1().await;
        let refused = nobody().await;
        let handle = cluster(&[good.address, refused], detecting(|_| {}));
        let (_worker, cluster) = worker(&handle);
        let publisher = serving(&handle);
        let _watch = spawn_health(publisher.watch());
        let state = || handle.hosts().find(&weft_model::EndpointAddress::Socket(refused));
        for _ in 0..10 {
            send(&cluster).await;
        }
        until(|| state().is_some_and(|state| state.flags().0 != 0)).await;
        for _ in 0..10 {
            assert_eq!(send(&cluster).await, Some(good.address));
        }
        let totals = state().unwrap().totals();
        assert_eq!((totals.rq_total, totals.rq_error, totals.cx_connect_fail), (5, 5, 5));
        assert_eq!(handle.stats().membership_healthy.value(), 1);
    });
}

#[test]
fn a_host_that_answers_with_server_errors_is_ejected() {
    local(async {
        let (good, bad) = (Server::http1().await, Server::http1().await);
        let handle = cluster(&[good.address, bad.address], detecting(|o| o.consecutive_5xx = 2));
        let (_worker, cluster) = worker(&handle);
        let publisher = serving(&handle);
        let _watch = spawn_health(publisher.watch());
        bad.status.set(StatusCode::SERVICE_UNAVAILABLE);
        for _ in 0..4 {
            send(&cluster).await;
        }
        until(|| handle.stats().membership_healthy.value() == 1).await;
        for _ in 0..6 {
            assert_eq!(send(&cluster).await, Some(good.address));
        }
    });
}
