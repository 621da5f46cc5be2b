//! HTTP/1.1 pools.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weft_upstream::{PickContext, RequestBody, UpstreamError};

use crate::servers::Server;
use crate::support::{cluster, endpoint_set, fetch, get, local, pass, read, until, worker};

#[test]
fn a_connection_is_used_again() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], |_| {});
        let (_worker, cluster) = worker(&handle);
        assert_eq!(fetch(&cluster, "/").await, (false, "0".to_owned()));
        assert_eq!(fetch(&cluster, "/").await, (true, "0".to_owned()));
        let stats = handle.stats();
        assert_eq!((stats.cx_total.value(), stats.cx_active.value()), (1, 1));
        assert_eq!((stats.rq_total.value(), stats.rq_active.value()), (2, 0));
        assert_eq!((stats.rq_2xx.value(), stats.rq_pending_active.value()), (2, 0));
        assert!(stats.cx_rx_bytes.value() > 0 && stats.cx_tx_bytes.value() > 0);
    });
}

#[test]
fn requests_at_once_get_connections_of_their_own() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], |_| {});
        let (_worker, cluster) = worker(&handle);
        let (first, second) = tokio::join!(fetch(&cluster, "/"), fetch(&cluster, "/"));
        assert_ne!(first.1, second.1);
        assert_eq!(server.accepted.get(), 2);
    });
}

#[test]
fn a_connection_that_the_upstream_closes_is_not_used_again() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], |_| {});
        let (_worker, cluster) = worker(&handle);
        assert_eq!(fetch(&cluster, "/close").await, (false, "0".to_owned()));
        assert_eq!(fetch(&cluster, "/").await, (false, "1".to_owned()));
        until(|| handle.stats().cx_active.value() == 1).await;
    });
}

#[test]
fn a_connection_serves_no_more_requests_than_configured() {
    local(async {
        let server = Server::http1().await;
        let handle =
            cluster(&[server.address], |cluster| cluster.max_requests_per_connection = Some(2));
        let (_worker, cluster) = worker(&handle);
        let mut connections = Vec::new();
        for _ in 0..4 {
            connections.push(fetch(&cluster, "/").await.1);
        }
        assert_eq!(connections, ["0", "0", "1", "1"]);
    });
}

#[test]
fn an_answer_dropped_half_way_closes_its_connection() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handle = cluster(&[listener.local_addr().unwrap()], |_| {});
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let (answer, mut peer) = tokio::join!(cluster.send(&picked, get("/")), async {
            let mut peer = listener.accept().await.unwrap().0;
            let mut buffer = [0; 1024];
            assert!(peer.read(&mut buffer).await.unwrap() > 0);
            peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
            peer
        });
        assert_eq!(handle.stats().rq_active.value(), 1);
        drop(answer.unwrap());
        assert_eq!(handle.stats().rq_active.value(), 0);
        assert_eq!(peer.read(&mut [0; 16]).await.unwrap(), 0, "the connection is closed");
        until(|| handle.stats().cx_active.value() == 0).await;
    });
}

#[test]
fn an_upstream_that_closes_without_an_answer_is_an_error() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handle = cluster(&[listener.local_addr().unwrap()], |_| {});
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let (answer, ()) = tokio::join!(cluster.send(&picked, get("/")), async {
            let mut peer = listener.accept().await.unwrap().0;
            assert!(peer.read(&mut [0; 1024]).await.unwrap() > 0);
        });
        let error = answer.unwrap_err().error;
        assert!(matches!(error, UpstreamError::ConnectionClosed { reused: false }), "{error:?}");
        assert_eq!(handle.stats().rq_active.value(), 0);
    });
}

#[test]
fn nonsense_instead_of_an_answer_is_a_protocol_error() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handle = cluster(&[listener.local_addr().unwrap()], |_| {});
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let (answer, ()) = tokio::join!(cluster.send(&picked, get("/")), async {
            let mut peer = listener.accept().await.unwrap().0;
            assert!(peer.read(&mut [0; 1024]).await.unwrap() > 0);
            peer.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await.unwrap();
        });
        let error = answer.unwrap_err().error;
        assert!(matches!(error, UpstreamError::Protocol { .. }), "{error:?}");
    });
}

/// Answers one request, and closes the connection when the next one has arrived.
async fn answers_once(listener: &TcpListener) {
    let mut peer = listener.accept().await.unwrap().0;
    assert!(peer.read(&mut [0; 1024]).await.unwrap() > 0);
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n0").await.unwrap();
    assert!(peer.read(&mut [0; 1024]).await.unwrap() > 0);
}

async fn answers(listener: &TcpListener) -> tokio::net::TcpStream {
    let mut peer = listener.accept().await.unwrap().0;
    assert!(peer.read(&mut [0; 1024]).await.unwrap() > 0);
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1").await.unwrap();
    peer
}

#[test]
fn a_request_whose_old_connection_dies_is_sent_again_once() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handle = cluster(&[listener.local_addr().unwrap()], |_| {});
        let (_worker, cluster) = worker(&handle);
        let requests = async {
            assert_eq!(fetch(&cluster, "/").await.1, "0");
            // A connection is not trusted blindly once the worker's clock has moved on.
            pass(Duration::from_secs(2)).await;
            assert_eq!(fetch(&cluster, "/").await, (false, "1".to_owned()));
        };
        let server = async {
            answers_once(&listener).await;
            answers(&listener).await
        };
        tokio::join!(requests, server);
    });
}

#[test]
fn a_post_whose_old_connection_dies_is_not_sent_again() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handle = cluster(&[listener.local_addr().unwrap()], |_| {});
        let (_worker, cluster) = worker(&handle);
        let requests = async {
            assert_eq!(fetch(&cluster, "/").await.1, "0");
            let mut post = get("/");
            *post.method_mut() = Method::POST;
            let picked = cluster.pick(&PickContext::default()).unwrap();
            cluster.send(&picked, post).await.unwrap_err().error
        };
        let (error, ()) = tokio::join!(requests, answers_once(&listener));
        assert!(matches!(error, UpstreamError::ConnectionClosed { reused: true }), "{error:?}");
    });
}

#[test]
fn bodies_go_both_ways() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], |_| {});
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let body = Bytes::from(vec![b'x'; 1 << 20]);
        let request = Request::post("/echo").header("host", "test");
        let request = request.body(RequestBody::Full(body.clone())).unwrap();
        let answer = cluster.send(&picked, request).await.unwrap();
        let echoed = answer.body.collect().await.unwrap().to_bytes();
        assert_eq!(echoed.len(), body.len());
        assert_eq!(fetch(&cluster, "/").await, (true, "0".to_owned()));
    });
}

#[test]
fn an_upgraded_connection_is_a_stream_of_bytes() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], |_| {});
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let mut request = get("/upgrade");
        request.headers_mut().insert("connection", "upgrade".parse().unwrap());
        request.headers_mut().insert("upgrade", "echo".parse().unwrap());
        let mut answer = cluster.send(&picked, request).await.unwrap();
        assert_eq!(answer.head.status, StatusCode::SWITCHING_PROTOCOLS);
        let mut stream = answer.body.upgrade().unwrap().await.unwrap();
        stream.write_all(b"!").await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"!");
        assert_eq!(handle.stats().cx_active.value(), 1, "an upgraded connection still counts");
        drop(stream);
        until(|| handle.stats().cx_active.value() == 0).await;
    });
}

#[test]
fn connections_to_a_removed_endpoint_end() {
    local(async {
        let (old, new) = (Server::http1().await, Server::http1().await);
        let handle = cluster(&[old.address], |_| {});
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let (answer, ()) = tokio::join!(cluster.send(&picked, get("/wait")), async {
            until(|| old.arrived.get() == 1).await;
            handle.set_endpoints(endpoint_set(&[new.address]).into());
            assert_eq!(fetch(&cluster, "/").await, (false, "0".to_owned()));
            old.gate.notify_one();
        });
        assert_eq!(read(answer.unwrap()).await, "0", "what is under way is finished");
        until(|| handle.stats().cx_active.value() == 1).await;
        assert_eq!(old.accepted.get(), 1);
    });
}

#[test]
fn an_idle_connection_is_closed_after_the_idle_timeout() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], |cluster| {
            cluster.idle_timeout = Some(Duration::from_secs(10));
        });
        let (_worker, cluster) = worker(&handle);
        fetch(&cluster, "/").await;
        pass(Duration::from_secs(9)).await;
        assert_eq!(fetch(&cluster, "/").await, (true, "0".to_owned()));
        pass(Duration::from_secs(13)).await;
        until(|| handle.stats().cx_active.value() == 0).await;
        assert_eq!(fetch(&cluster, "/").await, (false, "1".to_owned()));
    });
}

#[test]
fn a_connection_lives_no_longer_than_configured() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], |cluster| {
            cluster.max_connection_duration = Some(Duration::from_secs(5));
        });
        let (_worker, cluster) = worker(&handle);
        for second in 0..5 {
            assert_eq!(fetch(&cluster, "/").await.1, "0", "second {second}");
            pass(Duration::from_secs(1)).await;
        }
        pass(Duration::from_secs(2)).await;
        assert_eq!(fetch(&cluster, "/").await, (false, "1".to_owned()));
    });
}
