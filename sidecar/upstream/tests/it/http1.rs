//! HTTP/1.1 pools.

use std::rc::Rc;

use tokio::sync::Notify;
use weft_upstream::{PickContext, UpstreamError};

use crate::support::{Server, cluster, endpoint_set, fetch, get, local, read, worker};

#[test]
fn a_connection_is_used_again() {
    local(async {
        let server = Server::http1(Rc::new(Notify::new())).await;
        let handle = cluster(&[server.address], |_| {});
        let (_worker, cluster) = worker(&handle);
        assert_eq!(fetch(&cluster, "/").await, (false, "0".to_owned()));
        assert_eq!(fetch(&cluster, "/").await, (true, "0".to_owned()));
        let stats = handle.stats();
        assert_eq!((stats.cx_total.value(), stats.cx_active.value()), (1, 1));
        assert_eq!((stats.rq_total.value(), stats.rq_active.value()), (2, 0));
        assert_eq!((stats.rq_2xx.value(), stats.rq_pending_active.value()), (2, 0));
    });
}

#[test]
fn a_connection_that_the_upstream_closes_is_not_used_again() {
    local(async {
        let server = Server::http1(Rc::new(Notify::new())).await;
        let handle = cluster(&[server.address], |_| {});
        let (_worker, cluster) = worker(&handle);
        assert_eq!(fetch(&cluster, "/close").await, (false, "0".to_owned()));
        assert_eq!(fetch(&cluster, "/").await, (false, "1".to_owned()));
    });
}
