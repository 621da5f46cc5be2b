//! Upstreams that are told of the client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_filter_api::ConnectionFacts;
use weft_model::{PassTlvs, ProxiedSocket, ProxyHeader, ProxyVersion, UpstreamSocket};
use weft_upstream::{PickContext, WorkerCluster};

use crate::support::{cluster, endpoint_set, get, local, worker};

fn client(port: u16) -> ConnectionFacts {
    ConnectionFacts {
        id: 1,
        remote: ([192, 0, 2, 1], port).into(),
        local: ([192, 0, 2, 2], 80).into(),
        restored: false,
        accepted: SystemTime::UNIX_EPOCH,
        application_protocols: Vec::new(),
        server_name: None,
        tls: None,
        annotations: None,
        tlvs: None,
        keep_source: None,
        kept: Vec::new(),
    }
}

fn telling(endpoints: &[SocketAddr]) -> Arc<weft_model::ClusterHandle> {
    cluster(endpoints, |cluster| {
        let header =
            ProxyHeader { version: ProxyVersion::V1, added: Vec::new(), pass: PassTlvs::None };
        let socket = ProxiedSocket { header, inner: UpstreamSocket::Raw };
        cluster.default_socket = UpstreamSocket::Proxied(Box::new(socket));
    })
}

/// Answers requests on one connection; gives its first line.
async fn first_line(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    String::from_utf8(seen).unwrap().lines().next().unwrap().to_owned()
}

async fn ask(cluster: &WorkerCluster, client: Option<&ConnectionFacts>) {
    let picked = cluster.pick(&PickContext { connection: client, ..PickContext::default() });
    let answer = cluster.send(&picked.unwrap(), get("/")).await.unwrap();
    crate::support::read(answer).await;
}

#[test]
fn each_client_has_connections_of_its_own_that_begin_with_its_address() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handle = telling(&[listener.local_addr().unwrap()]);
        let (_worker, cluster) = worker(&handle);
        let (ann, bob) = (client(1000), client(2000));
        let serve = async |expected: &str| {
            let mut stream = listener.accept().await.unwrap().0;
            assert_eq!(first_line(&mut stream).await, expected);
            stream
        };
        let (_, mut of_ann) = tokio::join!(
            ask(&cluster, Some(&ann)),
            serve("PROXY TCP4 192.0.2.1 192.0.2.2 1000 80")
        );
        let bobs = "PROXY TCP4 192.0.2.1 192.0.2.2 2000 80";
        let _of_bob = tokio::join!(ask(&cluster, Some(&bob)), serve(bobs)).1;
        let (_, again) = tokio::join!(ask(&cluster, Some(&ann)), first_line(&mut of_ann));
        assert_eq!(again, "GET / HTTP/1.1", "the header stands at the beginning alone");
    });
}

#[test]
fn an_endpoint_is_reached_at_another_of_its_addresses() {
    local(async {
        let (gone, there) =
            (TcpListener::bind("127.0.0.1:0").await, TcpListener::bind("127.0.0.1:0").await);
        let (gone, there) = (gone.unwrap(), there.unwrap());
        let handle = cluster(&[], |_| {});
        let mut endpoints = endpoint_set(&[gone.local_addr().unwrap()]);
        drop(gone);
        let endpoint = Arc::get_mut(&mut endpoints.priorities[0].endpoints[0]).unwrap();
        endpoint.more = Some([there.local_addr().unwrap()].into());
        handle.set_endpoints(Arc::new(endpoints));
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let stream = cluster.connect_tcp(&picked).await.unwrap();
        assert_eq!(stream.remote_address(), Some(there.local_addr().unwrap()));
    });
}
