//! Connections that change their protocol.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::Client;
use crate::server::{self, header};
use crate::world::{Setup, local};

const REQUEST: &str =
    "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

async fn echo_after_upgrade() -> std::net::SocketAddr {
    server::raw(|mut stream| async move {
        let head = server::read_head(&mut stream).await.unwrap();
        assert_eq!(header(&head, "upgrade"), Some("websocket"));
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

#[test]
fn a_websocket_carries_bytes_both_ways() {
    local(async {
        let world = Setup::to(echo_after_upgrade().await).start().await;
        let mut client = Client::connect(world.address).await;
        client.send(REQUEST).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert_eq!(header(&head, "upgrade"), Some("websocket"));
        for message in ["hi", "ping", "a longer message"] {
            if message != "hi" {
                client.send(message).await;
            }
            let mut seen = vec![0; message.len()];
            client.stream.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, message.as_bytes());
        }
        assert_eq!(world.stats.cx_upgrades_total.value(), 1);
        assert_eq!(world.stats.rq_active.value(), 1);
        drop(client);
        while world.stats.rq_active.value() > 0 {
            tokio::task::yield_now().await;
        }
        world.drain.empty().await;
        assert_eq!(world.clusters["upstream"].stats().rq_active.value(), 0);
    });
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    local(async {
        let world = Setup::to(server::echo_head().await).start().await;
        let mut client = Client::connect(world.address).await;
        client.send(REQUEST).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(answer.text(), "upgrade"), Some("websocket"));
    });
}

#[test]
fn an_upgrade_that_is_not_configured_is_403() {
    local(async {
        let mut setup = Setup::to(echo_after_upgrade().await);
        setup.action().upgrades = vec![("WEBSOCKET".into(), false)];
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send(REQUEST).await;
        assert_eq!(client.answer().await.status(), 403);
    });
}

#[test]
fn a_forced_drain_ends_upgraded_connections() {
    local(async {
        let world = Setup::to(echo_after_upgrade().await).start().await;
        let mut client = Client::connect(world.address).await;
        client.send(REQUEST).await;
        client.head().await;
        client.stream.read_u16().await.unwrap();
        world.drain.advance(weft_net::Phase::Forced);
        assert!(client.rest().await.is_empty());
        world.drain.empty().await;
    });
}

#[test]
fn a_route_may_allow_what_the_connection_manager_does_not_know() {
    local(async {
        let mut setup = Setup::to(echo_after_upgrade().await);
        setup.manager.upgrades.clear();
        setup.action().upgrades.push(("websocket".into(), true));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send(REQUEST).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101"));
        let mut seen = [0; 2];
        client.stream.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"hi");
    });
}
