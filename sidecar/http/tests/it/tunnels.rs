//! CONNECT, and the TCP proxy that asks for tunnels itself.

use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_model::{HeaderMutations, HeaderTemplate, Tunneling};
use weft_route::PathMatch;

use crate::client::Client;
use crate::server;
use crate::world::{Setup, local, tcp_proxy};

const CONNECT: &str = "CONNECT there:7 HTTP/1.1\r\nhost: there:7\r\n\r\n";

/// Everything goes to this upstream, CONNECT too.
fn setup(address: std::net::SocketAddr, terminates: bool) -> Setup {
    let mut setup = Setup::to(address);
    setup.manager.upgrades.push("connect".into());
    setup.rules[0].path = PathMatch::Connect;
    setup.action().terminates = terminates;
    setup
}

async fn echo() -> std::net::SocketAddr {
    server::raw(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

#[test]
fn a_tunnel_carries_bytes_and_the_end_of_either_side() {
    local(async {
        let world = setup(echo().await, true).start().await;
        let mut client = Client::connect(world.address).await;
        client.send(CONNECT).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(server::header(&head, "content-length"), None);
        client.send("ping").await;
        let mut seen = [0; 4];
        client.stream.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"ping");
        client.stream.shutdown().await.unwrap();
        assert!(client.rest().await.is_empty());
        while world.stats.rq_active.value() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.stats.cx_upgrades_total.value(), 1);
        assert_eq!(world.clusters["upstream"].stats().cx_active.value(), 0);
    });
}

#[test]
fn connect_that_is_not_configured_is_403() {
    local(async {
        let mut setup = setup(echo().await, true);
        setup.manager.upgrades.clear();
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send(CONNECT).await;
        assert_eq!(client.answer().await.status(), 403);
    });
}

#[test]
fn the_tcp_proxy_is_carried_through_another_proxy() {
    local(async {
        // The outer one ends the tunnels that the inner one asks for.
        let outer = setup(echo().await, true).start().await;
        let mut inner = Setup::new();
        inner.cluster("upstream", &[outer.address]);
        let mut proxy = tcp_proxy(&mut inner, "upstream");
        proxy.tunnel = Some(Box::new(Tunneling {
            hostname: HeaderTemplate::Fixed(HeaderValue::from_static("there:7")),
            post: None,
            headers: HeaderMutations::default(),
        }));
        inner.tcp = Some(proxy);
        let inner = inner.start().await;
        let mut client = Client::connect(inner.address).await;
        client.send("a question").await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.rest().await, b"a question");
        assert_eq!(outer.stats.cx_upgrades_total.value(), 1);
    });
}

#[test]
fn the_tcp_proxy_is_carried_within_streams_of_http2() {
    local(async {
        let outer = setup(echo().await, true).start().await;
        let mut inner = Setup::new();
        inner.cluster("upstream", &[outer.address]).protocol = weft_model::ProtocolChoice::Http2;
        let mut proxy = tcp_proxy(&mut inner, "upstream");
        proxy.tunnel = Some(Box::new(Tunneling {
            hostname: HeaderTemplate::Fixed(HeaderValue::from_static("there:7")),
            post: None,
            headers: HeaderMutations::default(),
        }));
        inner.tcp = Some(proxy);
        let inner = inner.start().await;
        let much = "x".repeat(300_000);
        for question in ["a question", "another one", &much] {
            let mut client = Client::connect(inner.address).await;
            let sent = question.as_bytes().to_vec();
            let (mut read, mut write) = client.stream.split();
            let send = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut seen = Vec::new();
            let (_, read) = tokio::join!(send, read.read_to_end(&mut seen));
            read.unwrap();
            assert!(seen == sent, "{} of {} bytes", seen.len(), sent.len());
        }
        assert_eq!(outer.stats.cx_http2_total.value(), 1);
    });
}
