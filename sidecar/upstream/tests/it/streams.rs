//! Connections of their own, and connections that fail.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use weft_model::{CircuitBreakers, EndpointAddress, Thresholds};
use weft_upstream::{Limit, PickContext, UpstreamError};

use crate::support::{cluster, endpoint_set, get, local, worker};

#[test]
fn a_stream_carries_bytes_and_counts_as_a_connection() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handle = cluster(&[listener.local_addr().unwrap()], |cluster| {
            let default = Thresholds { connections: 1, ..Thresholds::default() };
            cluster.breakers = CircuitBreakers { default, ..CircuitBreakers::default() };
        });
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let mut stream = cluster.connect_tcp(&picked).await.unwrap();
        assert!(stream.tcp().is_some());
        let mut peer = listener.accept().await.unwrap().0;
        stream.write_all(b"ping").await.unwrap();
        let mut buffer = [0; 4];
        peer.read_exact(&mut buffer).await.unwrap();
        let refused = cluster.connect_tcp(&picked).await.unwrap_err();
        assert!(matches!(refused, UpstreamError::Overflow(Limit::Connections)), "{refused}");
        drop(stream);
        let stats = handle.stats();
        assert_eq!((stats.cx_active.value(), stats.cx_tx_bytes.value()), (0, 4));
        assert!(cluster.connect_tcp(&picked).await.is_ok());
    });
}

#[test]
fn an_endpoint_can_be_a_unix_domain_socket() {
    local(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let handle = cluster(&[], |_| {});
        let mut endpoints = endpoint_set(&["0.0.0.0:0".parse().unwrap()]);
        let endpoint = Arc::get_mut(&mut endpoints.priorities[0].endpoints[0]).unwrap();
        endpoint.address = EndpointAddress::Pipe(path);
        handle.set_endpoints(Arc::new(endpoints));
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        assert_eq!(picked.address(), None);
        let (answer, ()) = tokio::join!(cluster.send(&picked, get("/")), async {
            let mut peer = listener.accept().await.unwrap().0;
            assert!(peer.read(&mut [0; 1024]).await.unwrap() > 0);
            peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        });
        assert_eq!(answer.unwrap().head.status, 204);
    });
}

#[test]
fn a_refused_connection_fails_everyone_who_waits_and_gives_requests_back() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let handle = cluster(&[address], |_| {});
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let (a, b) =
            tokio::join!(cluster.send(&picked, get("/a")), cluster.send(&picked, get("/b")));
        for (error, path) in [(a.unwrap_err(), "/a"), (b.unwrap_err(), "/b")] {
            assert!(error.error.is_connect_failure(), "{error}");
            assert!(error.to_string().contains(&address.to_string()), "{error}");
            assert_eq!(error.request.unwrap().uri(), path);
        }
        let stats = handle.stats();
        assert_eq!((stats.cx_connect_fail.value(), stats.cx_active.value()), (2, 0));
        assert_eq!((stats.rq_active.value(), stats.rq_pending_active.value()), (0, 0));
    });
}

#[test]
fn a_connection_that_is_not_made_in_time_fails() {
    local(async {
        // A listener whose queue is full does not answer.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _filler = tokio::net::TcpStream::connect(address).await.unwrap();
        let handle = cluster(&[address], |cluster| {
            cluster.connect_timeout = Duration::from_millis(50);
        });
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let error = cluster.send(&picked, get("/")).await.unwrap_err().error;
        let UpstreamError::ConnectTimeout { address: to, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*to, EndpointAddress::Socket(address));
        assert_eq!(handle.stats().cx_connect_timeout.value(), 1);
    });
}
