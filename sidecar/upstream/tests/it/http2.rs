//! HTTP/2 pools.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use weft_filter_api::Protocol;
use weft_model::{KeepalivePings, ProtocolChoice};
use weft_upstream::{PickContext, RequestBody};

use crate::servers::Server;
use crate::support::{cluster, fetch, get, local, read, until, worker};

#[test]
fn streams_share_one_connection() {
    local(async {
        let server = Server::http2(100).await;
        let handle = cluster(&[server.address], |c| c.protocol = ProtocolChoice::Http2);
        let (_worker, cluster) = worker(&handle);
        let opener = async {
            until(|| server.arrived.get() == 3).await;
            server.gate.notify_waiters();
        };
        let (a, b, c, ()) = tokio::join!(
            fetch(&cluster, "/wait"),
            fetch(&cluster, "/wait"),
            fetch(&cluster, "/wait"),
            opener
        );
        assert_eq!([a.1, b.1, c.1], ["0", "0", "0"]);
        let stats = handle.stats();
        assert_eq!((server.accepted.get(), stats.cx_http2_total.value()), (1, 1));
        assert_eq!(stats.rq_active.value(), 0);
    });
}

#[test]
fn bodies_go_both_ways() {
    local(async {
        let server = Server::http2(100).await;
        let handle = cluster(&[server.address], |c| c.protocol = ProtocolChoice::Http2);
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let request = Request::post("/echo").header("host", "test");
        let request = request.body(RequestBody::Full(Bytes::from(vec![b'x'; 300_000]))).unwrap();
        let answer = cluster.send(&picked, request).await.unwrap();
        assert_eq!(answer.protocol, Protocol::Http2);
        assert_eq!(read(answer).await.len(), 300_000);
    });
}

#[test]
fn a_full_connection_is_joined_by_another_one() {
    local(async {
        let server = Server::http2(100).await;
        let handle = cluster(&[server.address], |cluster| {
            cluster.protocol = ProtocolChoice::Http2;
            cluster.http2.max_concurrent_streams = 2;
        });
        let (_worker, cluster) = worker(&handle);
        let opener = async {
            until(|| server.arrived.get() == 3).await;
            server.gate.notify_waiters();
        };
        let (a, b, c, ()) = tokio::join!(
            fetch(&cluster, "/wait"),
            fetch(&cluster, "/wait"),
            fetch(&cluster, "/wait"),
            opener
        );
        let mut connections = [a.1, b.1, c.1];
        connections.sort_unstable();
        assert_eq!(connections, ["0", "0", "1"]);
    });
}

#[test]
fn the_upstreams_limit_of_streams_is_learned() {
    local(async {
        let server = Server::http2(1).await;
        let handle = cluster(&[server.address], |c| c.protocol = ProtocolChoice::Http2);
        let (_worker, cluster) = worker(&handle);
        for _ in 0..2 {
            assert_eq!(fetch(&cluster, "/").await.1, "0");
        }
        let opener = async {
            until(|| server.arrived.get() == 4).await;
            server.gate.notify_waiters();
        };
        let (a, b, ()) = tokio::join!(fetch(&cluster, "/wait"), fetch(&cluster, "/wait"), opener);
        assert_eq!([a.1, b.1], ["0", "1"]);
    });
}

#[test]
fn after_goaway_requests_go_over_a_new_connection() {
    local(async {
        let server = Server::http2(100).await;
        let handle = cluster(&[server.address], |c| c.protocol = ProtocolChoice::Http2);
        let (_worker, cluster) = worker(&handle);
        let waiting = async {
            assert_eq!(fetch(&cluster, "/wait").await.1, "0", "it ends on the old connection");
        };
        let others = async {
            until(|| server.arrived.get() == 1).await;
            server.goaway.notify_waiters();
            // The notice crosses with a request or two.
            while fetch(&cluster, "/").await.1 == "0" {}
            server.gate.notify_one();
        };
        tokio::join!(waiting, others);
        assert_eq!(server.accepted.get(), 2);
        until(|| handle.stats().cx_active.value() == 1).await;
    });
}

#[test]
fn a_dropped_request_resets_its_stream_only() {
    local(async {
        let server = Server::http2(100).await;
        let handle = cluster(&[server.address], |c| c.protocol = ProtocolChoice::Http2);
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        tokio::select! {
            _ = cluster.send(&picked, get("/wait")) => panic!("nobody opens the gate"),
            () = until(|| server.arrived.get() == 1) => {}
        }
        assert_eq!(handle.stats().rq_active.value(), 0);
        assert_eq!(fetch(&cluster, "/").await, (true, "0".to_owned()));
    });
}

#[test]
fn the_clients_protocol_is_spoken_upstream_where_configured() {
    local(async {
        let server = Server::http2(100).await;
        let handle = cluster(&[server.address], |cluster| {
            cluster.protocol = ProtocolChoice::Downstream;
            let (interval, timeout) = (Duration::from_secs(1), Duration::from_secs(1));
            cluster.http2.keepalive = Some(KeepalivePings { interval, timeout });
        });
        let (_worker, cluster) = worker(&handle);
        let downstream_protocol = Some(Protocol::Http2);
        let cx = PickContext { downstream_protocol, ..PickContext::default() };
        let picked = cluster.pick(&cx).unwrap();
        let answer = cluster.send(&picked, get("/")).await.unwrap();
        assert_eq!(answer.protocol, Protocol::Http2);
        assert_eq!(answer.head.status, 200);
    });
}
