//! The TCP proxy.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::Client;
use crate::server;
use crate::world::{Setup, local, tcp_proxy};

fn setup(address: std::net::SocketAddr) -> Setup {
    let mut setup = Setup::new();
    setup.cluster("upstream", &[address]);
    let proxy = tcp_proxy(&mut setup, "upstream");
    setup.tcp = Some(proxy);
    setup
}

#[test]
fn bytes_are_carried_and_half_closes_passed_on() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            let mut question = String::new();
            stream.read_to_string(&mut question).await.unwrap();
            stream.write_all(format!("answer to {question}").as_bytes()).await.unwrap();
        });
        let setup = setup(upstream.await);
        let stats = setup.tcp.as_ref().unwrap().stats.clone();
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("a question").await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.rest().await, b"answer to a question");
        world.drain.empty().await;
        assert_eq!((stats.cx_rx_bytes.value(), stats.cx_tx_bytes.value()), (10, 20));
        assert_eq!((stats.cx_total.value(), stats.cx_active.value()), (1, 0));
        assert_eq!(world.clusters["upstream"].stats().cx_active.value(), 0);
    });
}

#[test]
fn a_server_may_speak_first() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            stream.write_all(b"welcome").await.unwrap();
            let _ = stream.read_u8().await;
        });
        let world = setup(upstream.await).start().await;
        let mut client = Client::connect(world.address).await;
        let mut seen = [0; 7];
        client.stream.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"welcome");
    });
}

#[test]
fn a_dead_endpoint_is_followed_by_another() {
    local(async {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = closed.local_addr().unwrap();
        drop(closed);
        let alive = server::raw(|mut stream| async move {
            stream.write_all(b"!").await.unwrap();
        });
        let mut setup = setup(dead);
        setup.clusters.get_mut("upstream").unwrap().1.push(alive.await);
        setup.tcp.as_mut().unwrap().max_connect_attempts = 3;
        let world = setup.start().await;
        for _ in 0..4 {
            assert_eq!(Client::connect(world.address).await.rest().await, b"!");
        }
    });
}

#[test]
fn a_missing_cluster_closes_the_connection() {
    local(async {
        let mut setup = Setup::new();
        let proxy = tcp_proxy(&mut setup, "missing");
        let stats = proxy.stats.clone();
        setup.tcp = Some(proxy);
        let world = setup.start().await;
        assert!(Client::connect(world.address).await.rest().await.is_empty());
        assert_eq!(stats.cx_no_route.value(), 1);
    });
}

#[test]
fn silence_and_age_end_a_connection() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            let _ = stream.read_u8().await;
        });
        let address = upstream.await;
        let mut idle = setup(address);
        idle.tcp.as_mut().unwrap().idle_timeout = Some(Duration::from_millis(40));
        let stats = idle.tcp.as_ref().unwrap().stats.clone();
        let world = idle.start().await;
        assert!(Client::connect(world.address).await.rest().await.is_empty());
        assert_eq!(stats.idle_timeout.value(), 1);
        let mut old = setup(address);
        old.tcp.as_mut().unwrap().max_duration = Some(Duration::from_millis(40));
        let world = old.start().await;
        assert!(Client::connect(world.address).await.rest().await.is_empty());
    });
}
