//! Time limits.

use std::time::Duration;

use http::Request;
use http_body_util::Empty;
use tokio::io::AsyncWriteExt;
use weft_model::Forward;

use crate::client::{self, Client};
use crate::server;
use crate::world::{Setup, local};

async fn silent() -> std::net::SocketAddr {
    server::raw(|mut stream| async move {
        server::read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await
}

#[test]
fn a_response_that_does_not_come_is_504() {
    local(async {
        let mut setup = Setup::to(silent().await);
        setup.action().timeout = Some(Duration::from_millis(50));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        let answer = client.get("/").await;
        assert_eq!((answer.status(), answer.text()), (504, "upstream request timeout"));
        let stats = world.clusters["upstream"].stats();
        assert_eq!((stats.rq_timeout.value(), stats.rq_active.value()), (1, 0));
        assert_eq!(client.get("/").await.status(), 504, "the connection goes on");
    });
}

#[test]
fn a_header_can_shorten_the_timeout() {
    local(async {
        let world = Setup::to(silent().await).start().await;
        let mut client = Client::connect(world.address).await;
        client
            .send("GET / HTTP/1.1\r\nhost: a\r\nx-envoy-upstream-rq-timeout-ms: 20\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.status(), 504);
    });
}

#[test]
fn the_timeout_counts_from_the_end_of_the_request() {
    local(async {
        let mut setup = Setup::to(server::echo_body().await);
        setup.action().timeout = Some(Duration::from_millis(100));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.send("cd").await;
        assert_eq!(client.answer().await.text(), "abcd");
    });
}

#[test]
fn a_response_that_stops_is_cut_off() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            server::read_head(&mut stream).await;
            let start = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
            stream.write_all(start).await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut setup = Setup::to(upstream.await);
        setup.action().timeout = Some(Duration::from_millis(50));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
        assert_eq!(client.rest().await, b"part");
        assert_eq!(world.stats.rq_active.value(), 0);
    });
}

#[test]
fn a_stream_that_is_silent_for_too_long_ends() {
    local(async {
        let mut setup = Setup::to(silent().await);
        setup.action().timeout = None;
        setup.manager.stream_idle_timeout = Some(Duration::from_millis(50));
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!((answer.status(), answer.text()), (504, "stream timeout"));
        // While the request is not there, it is the client's fault.
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await;
        assert_eq!(client.answer().await.status(), 408);
    });
}

#[test]
fn grpc_timeouts_are_obeyed() {
    local(async {
        let late = late_call(|action| action.grpc_timeout_max = Some(Duration::ZERO)).await;
        assert_eq!(late, ("14".to_owned(), "upstream request timeout".to_owned()));
    });
}

#[test]
fn a_grpc_timeout_limits_the_whole_stream() {
    local(async {
        let late = late_call(|action| action.grpc_duration_max = Some(Duration::ZERO)).await;
        assert_eq!(late, ("4".to_owned(), "downstream duration timeout".to_owned()));
    });
}

/// The status and the message of a call with a `grpc-timeout` that is never answered.
async fn late_call(configure: impl FnOnce(&mut Forward)) -> (String, String) {
    let upstream = server::http2(|_| async {
        std::future::pending::<http::Response<Empty<bytes::Bytes>>>().await
    });
    let mut setup = Setup::to(upstream.await);
    setup.clusters.get_mut("upstream").unwrap().0.protocol = weft_model::ProtocolChoice::Http2;
    configure(setup.action());
    let world = setup.start().await;
    let mut sender = client::http2(world.address).await;
    let request = Request::post("http://a/s/m")
        .header("content-type", "application/grpc+proto")
        .header("grpc-timeout", "30m")
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = client::send(&mut sender, request).await;
    assert_eq!(response.status(), 200);
    let text = |name| response.headers()[name].to_str().unwrap().to_owned();
    (text("grpc-status"), text("grpc-message"))
}

#[test]
fn idle_connections_are_closed() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.manager.idle_timeout = Some(Duration::from_millis(60));
        let world = setup.start().await;
        let mut used = Client::connect(world.address).await;
        let mut unused = Client::connect(world.address).await;
        assert_eq!(used.get("/").await.status(), 200);
        assert!(used.rest().await.is_empty());
        assert!(unused.rest().await.is_empty());
        world.drain.empty().await;
        assert_eq!(world.stats.cx_active.value(), 0);
    });
}

#[test]
fn request_heads_have_to_come_in_time() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.manager.request_headers_timeout = Some(Duration::from_millis(50));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nho").await;
        let rest = String::from_utf8(client.rest().await).unwrap();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
    });
}

#[test]
fn the_whole_request_has_to_come_in_time() {
    local(async {
        let mut setup = Setup::to(silent().await);
        setup.manager.request_timeout = Some(Duration::from_millis(50));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (408, "request timeout"));
    });
}

#[test]
fn connections_end_after_their_number_of_requests() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.manager.max_requests_per_connection = Some(2);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        assert_eq!(client.get("/").await.header("connection"), None);
        assert_eq!(client.get("/").await.header("connection"), Some("close"));
        assert!(client.rest().await.is_empty());
    });
}
