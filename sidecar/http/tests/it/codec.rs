//! HTTP/1 as clients and upstreams may send it: refusals, pipelines, connections that end.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::Client;
use crate::server::{self, header};
use crate::world::{Setup, World, local};

/// A world whose upstream would answer anything that got through, and whose log says what was
/// refused.
async fn world(folder: &tempfile::TempDir) -> World {
    let mut setup = Setup::to(server::echo_head().await);
    setup.log_to(
        &folder.path().join("log"),
        "%REQ(:METHOD)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n",
    );
    setup.start().await
}

fn log(folder: &tempfile::TempDir) -> String {
    weft_telemetry::flush_logs();
    std::fs::read_to_string(folder.path().join("log")).unwrap()
}

#[test]
fn a_request_that_could_be_read_in_two_ways_is_refused() {
    local(async {
        const LENGTH: &str = "http1.codec_error";
        const CODING: &str = "http1.invalid_transfer_encoding";
        for (headers, status, details) in [
            ("content-length: 4\r\ncontent-length: 5\r\n", 400, LENGTH),
            ("content-length: 4\r\ncontent-length: 4\r\n", 400, LENGTH),
            ("content-length: 4, 4\r\n", 400, LENGTH),
            ("content-length: +4\r\n", 400, LENGTH),
            ("content-length: 4 4\r\n", 400, LENGTH),
            ("content-length: 0x4\r\n", 400, LENGTH),
            ("content-length:\r\n", 400, LENGTH),
            (
                "content-length: 4\r\ntransfer-encoding: chunked\r\n",
                400,
                "http1.content_length_and_chunked_not_allowed",
            ),
            (
                "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
                400,
                "http1.content_length_and_chunked_not_allowed",
            ),
            ("transfer-encoding: gzip\r\n", 501, CODING),
            ("transfer-encoding: xchunked\r\n", 501, CODING),
            ("transfer-encoding: identity\r\n", 501, CODING),
            ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", 501, CODING),
            ("transfer-encoding: \"chunked\"\r\n", 501, CODING),
            ("transfer-encoding : chunked\r\n", 400, LENGTH),
            ("transfer-encoding\t: chunked\r\n", 400, LENGTH),
            (" transfer-encoding: chunked\r\n", 400, LENGTH),
            ("x: y\r\n transfer-encoding: chunked\r\n", 400, LENGTH),
            ("x: y\ntransfer-encoding: chunked\r\n", 400, LENGTH),
            ("transfer-encoding: chunked\n\r\n", 400, LENGTH),
            ("transfer-encoding: chun\0ked\r\n", 400, "http1.invalid_characters"),
            ("transfer-encoding: \x0bchunked\r\n", 400, "http1.invalid_characters"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let world = world(&folder).await;
            let mut client = Client::connect(world.address).await;
            let request = format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
            client.send(&(request + "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            let answer = client.answer().await;
            assert_eq!(answer.status(), status, "{headers:?}");
            assert_eq!(answer.header("connection"), Some("close"), "{headers:?}");
            assert_eq!(answer.header("server"), Some("weft"), "{headers:?}");
            assert_eq!(answer.header("content-type"), Some("text/plain"), "{headers:?}");
            let reason = if status == 400 { "Bad Request" } else { "Not Implemented" };
            assert_eq!(answer.text(), reason);
            assert!(client.rest().await.is_empty(), "{headers:?}: more was answered");
            let expected = format!("- HTTP/1.1 {status} DPE {details}\n");
            assert_eq!(log(&folder), expected, "{headers:?}");
            assert_eq!(world.stats.cx_protocol_error.value(), 1);
            assert_eq!(world.clusters["upstream"].stats().rq_total.value(), 0);
        }
    });
}

#[test]
fn a_refusal_is_not_lost_to_what_the_client_still_sends() {
    local(async {
        let folder = tempfile::tempdir().unwrap();
        let world = world(&folder).await;
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n").await;
        for _ in 0..8 {
            client.stream.write_all(&[b'x'; 16 << 10]).await.unwrap();
        }
        assert_eq!(client.answer().await.status(), 400);
        assert!(client.rest().await.is_empty());
    });
}

#[test]
fn the_preface_of_http2_is_no_request_of_http1() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.manager.codec = weft_model::Codec::Http1;
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 400);
    });
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_408() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.manager.request_headers_timeout = Some(Duration::from_millis(50));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        assert_eq!(client.get("/").await.status(), 200);
        client.send("GET / HTTP/1.1\r\nhost").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (408, "request header timeout"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.rest().await.is_empty());
    });
}

/// An upstream that answers with the body that it got, chunked or not.
async fn echo() -> std::net::SocketAddr {
    server::raw(|stream| async move {
        // A client of the tests reads chunks; here it plays the server.
        let mut peer = Client { stream };
        while let Some(head) = server::read_head(&mut peer.stream).await {
            let mut body = Vec::new();
            if header(&head, "transfer-encoding").is_some() {
                while let Some(chunk) = peer.chunk().await {
                    body.extend(chunk);
                }
            } else {
                body = server::read_body(&mut peer.stream, &head).await;
            }
            let body = String::from_utf8(body).unwrap();
            server::respond(&mut peer.stream, "200 OK", &body).await;
        }
    })
    .await
}

#[test]
fn requests_in_a_row_are_answered_in_order() {
    local(async {
        let world = Setup::to(echo().await).start().await;
        let mut client = Client::connect(world.address).await;
        let mut all = String::new();
        for number in 0..50 {
            all += "\r\nPOST / HTTP/1.1\r\nhost: a\r\n";
            let (tens, ones) = (number / 10, number % 10);
            all += &if number % 2 == 0 {
                format!("content-length: 2\r\n\r\n{tens}{ones}")
            } else {
                let chunks = format!("1\r\n{tens}\r\n1\r\n{ones}\r\n0\r\n\r\n");
                format!("transfer-encoding: chunked\r\n\r\n{chunks}")
            };
        }
        client.send(&all).await;
        for number in 0..50 {
            assert_eq!(client.answer().await.text(), format!("{number:02}"));
        }
        assert_eq!(world.stats.cx_http1_total.value(), 1);
    });
}

#[test]
fn a_worker_that_ends_while_requests_wait_for_a_connection_just_ends() {
    local(async {
        // Its answers come before the end of the requests, so that connections are closed.
        let world = Setup::to(server::echo_body().await).start().await;
        let mut client = Client::connect(world.address).await;
        for _ in 0..20 {
            client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
            client.send("1\r\na\r\n0\r\n\r\n").await;
        }
        client.answer().await;
    });
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    local(async {
        let world = Setup::to(echo().await).start().await;
        let mut client = Client::connect(world.address).await;
        let request = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                       3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        for byte in request.bytes() {
            client.stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(client.answer().await.text(), "abcd");
    });
}

#[test]
fn a_body_that_is_cut_off_gets_no_response() {
    local(async {
        for request in
            ["content-length: 10\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n2\r\nab"]
        {
            let world = Setup::to(server::echo_body().await).start().await;
            let mut client = Client::connect(world.address).await;
            client.send(&format!("POST / HTTP/1.1\r\nhost: a\r\n{request}")).await;
            client.stream.shutdown().await.unwrap();
            assert!(client.rest().await.is_empty());
            assert_eq!(world.stats.rq_rx_reset.value(), 1);
        }
    });
}

#[test]
fn bytes_behind_an_upgrade_belong_to_the_new_protocol() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            server::read_head(&mut stream).await.unwrap();
            let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                          upgrade: echo\r\n\r\nhello";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let mut setup = Setup::to(upstream.await);
        setup.action().upgrades.push(("echo".into(), true));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        client.send(&format!("{head}early")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101"));
        let mut seen = [0; 10];
        client.stream.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"helloearly");
    });
}

#[test]
fn a_client_of_http_10_keeps_its_connection_if_it_asks() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.manager.http1.accept_http_10 = true;
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        let request = "GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n";
        for _ in 0..2 {
            client.send(request).await;
            assert_eq!(client.answer().await.header("connection"), Some("keep-alive"));
        }
        client.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.answer().await.header("connection"), Some("close"));
        assert!(client.rest().await.is_empty());
    });
}

#[test]
fn the_spelling_of_names_passes_both_ways() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            while let Some(head) = server::read_head(&mut stream).await {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nX-MiXed: 1\r\ncontent-length: {}\r\n\r\n{head}",
                    head.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let mut setup = Setup::new();
        setup.cluster("upstream", &[upstream.await]).http1.preserve_case = true;
        let action = setup.forward("upstream");
        setup.rule("/", action);
        setup.manager.http1.preserve_case = true;
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-OWN: 2\r\n\r\n").await;
        let answer = client.answer().await;
        assert!(answer.head.contains("X-MiXed: 1\r\n"), "{}", answer.head);
        assert!(answer.text().contains("X-OWN: 2\r\n"), "{}", answer.text());
        assert_eq!(header(answer.text(), "host"), Some("a"));
    });
}
