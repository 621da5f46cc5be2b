//! Requests that go well, one after the other.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};

use crate::client::{self, Client};
use crate::server;
use crate::world::{Setup, local};

#[test]
fn a_request_is_forwarded_and_its_response_comes_back() {
    local(async {
        let world = Setup::to(server::echo_head().await).start().await;
        let mut client = Client::connect(world.address).await;
        let answer = client.get("/a/b?c=d").await;
        assert_eq!(answer.status(), 200);
        assert!(answer.text().starts_with("GET /a/b?c=d HTTP/1.1\r\n"), "{}", answer.text());
        let sent = |name| server::header(answer.text(), name);
        assert_eq!(sent("host"), Some("example.com"));
        assert_eq!(sent("x-forwarded-proto"), Some("http"));
        assert_eq!(sent("x-request-id").map(str::len), Some(36));
        assert_eq!(sent("x-envoy-expected-rq-timeout-ms"), Some("15000"));
        assert_eq!(sent("connection"), None);
        assert_eq!(answer.header("server"), Some("weft"));
        assert!(answer.header("date").is_some());
        assert!(answer.header("x-envoy-upstream-service-time").is_some());
    });
}

#[test]
fn connections_are_kept_on_both_sides() {
    local(async {
        let world = Setup::to(server::echo_head().await).start().await;
        let mut client = Client::connect(world.address).await;
        for _ in 0..20 {
            assert_eq!(client.get("/").await.status(), 200);
        }
        let stats = world.clusters["upstream"].stats();
        assert_eq!(stats.cx_total.value(), 1);
        assert_eq!(stats.rq_total.value(), 20);
        assert_eq!(world.stats.cx_total.value(), 1);
        assert_eq!(world.stats.rq_2xx.value(), 20);
        assert_eq!(world.stats.rq_active.value(), 0);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    local(async {
        let world = Setup::to(server::echo_head().await).start().await;
        let mut client = Client::connect(world.address).await;
        let all: String =
            (0..10).map(|i| format!("GET /{i} HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
        client.send(&all).await;
        for i in 0..10 {
            let answer = client.answer().await;
            assert!(answer.text().starts_with(&format!("GET /{i} ")), "{}", answer.text());
        }
    });
}

#[test]
fn bodies_with_a_length_and_chunked_ones_arrive() {
    local(async {
        let world = Setup::to(server::http2_echo().await);
        let mut world = world;
        world.clusters.get_mut("upstream").unwrap().0.protocol = weft_model::ProtocolChoice::Http2;
        let world = world.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (200, "hello"));
        assert_eq!(answer.header("x-uri"), Some("http://a/x"));
        client.send("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
        client.send("3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n").await;
        assert_eq!(client.answer().await.text(), "abcdefg");
    });
}

#[test]
fn http2_clients_reach_http1_upstreams() {
    local(async {
        let world = Setup::to(server::echo_body().await).start().await;
        let mut sender = client::http2(world.address).await;
        let body = Full::new(Bytes::from_static(b"over h2"));
        let request =
            Request::post("http://example.com/p").header("content-length", 7).body(body).unwrap();
        let response = client::send(&mut sender, request).await;
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"over h2");
        assert_eq!(world.stats.cx_http2_total.value(), 1);
        assert_eq!(world.stats.rq_http2_total.value(), 1);
    });
}

#[test]
fn head_responses_keep_their_length_without_a_body() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            use tokio::io::AsyncWriteExt;
            while server::read_head(&mut stream).await.is_some() {
                let response = b"HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n";
                stream.write_all(response).await.unwrap();
            }
        })
        .await;
        let world = Setup::to(upstream).start().await;
        let mut client = Client::connect(world.address).await;
        for _ in 0..2 {
            client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            let answer = client.answer_to(true).await;
            assert_eq!(answer.header("content-length"), Some("77"));
        }
        assert_eq!(world.clusters["upstream"].stats().cx_total.value(), 1);
    });
}
