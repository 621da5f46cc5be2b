//! Bodies that are large, slow or broken off.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::Client;
use crate::server;
use crate::world::{Setup, local};

const LARGE: usize = 32 << 20;

#[test]
fn large_bodies_pass_both_ways() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            let head = server::read_head(&mut stream).await.unwrap();
            let length: usize = server::header(&head, "content-length").unwrap().parse().unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        let world = Setup::to(upstream.await).start().await;
        let client = Client::connect(world.address).await;
        let (mut read, mut write) = client.stream.into_split();
        let sending = tokio::task::spawn_local(async move {
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
            write.write_all(head.as_bytes()).await.unwrap();
            let piece = vec![7; 1 << 20];
            for _ in 0..LARGE >> 20 {
                write.write_all(&piece).await.unwrap();
            }
            write
        });
        let mut seen = 0;
        let mut piece = vec![0; 64 << 10];
        while seen < LARGE {
            let count = read.read(&mut piece).await.unwrap();
            assert!(count > 0, "ended after {seen}");
            seen += count;
        }
        sending.await.unwrap();
    });
}

#[test]
fn a_slow_reader_holds_the_upstream_back() {
    local(async {
        let written = Rc::new(Cell::new(0usize));
        let count = Rc::clone(&written);
        let upstream = server::raw(move |mut stream| {
            let count = Rc::clone(&count);
            async move {
                server::read_head(&mut stream).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1u64 << 30);
                stream.write_all(head.as_bytes()).await.unwrap();
                let piece = vec![0; 64 << 10];
                while stream.write_all(&piece).await.is_ok() {
                    count.set(count.get() + piece.len());
                }
            }
        });
        let world = Setup::to(upstream.await).start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        client.head().await;
        // Until nothing moves any more; the sockets' own buffers hold some megabytes.
        let mut last = usize::MAX;
        while last != written.get() {
            last = written.get();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(last < 24 << 20, "{last} bytes were taken from the upstream");
        let stats = world.clusters["upstream"].stats();
        drop(client);
        while stats.rq_active.value() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_client_that_leaves_ends_the_exchange() {
    local(async {
        let ended = Rc::new(Cell::new(false));
        let seen = Rc::clone(&ended);
        let upstream = server::raw(move |mut stream| {
            let seen = Rc::clone(&seen);
            async move {
                server::read_head(&mut stream).await;
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                seen.set(true);
            }
        });
        let world = Setup::to(upstream.await).start().await;
        // One leaves before the response, one in the middle of its request.
        for request in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\nab",
        ] {
            ended.set(false);
            let mut client = Client::connect(world.address).await;
            client.send(request).await;
            let stats = world.clusters["upstream"].stats();
            while stats.rq_active.value() == 0 {
                tokio::task::yield_now().await;
            }
            drop(client);
            while !ended.get() {
                tokio::task::yield_now().await;
            }
            assert_eq!(stats.rq_active.value(), 0);
            assert_eq!(world.stats.rq_active.value(), 0);
        }
        assert_eq!(world.stats.rq_rx_reset.value(), 2);
    });
}

#[test]
fn an_upstream_that_breaks_off_breaks_the_response_off() {
    local(async {
        for head in ["content-length: 100", "transfer-encoding: chunked"] {
            let upstream = server::raw(move |mut stream| async move {
                server::read_head(&mut stream).await;
                let start = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n4\r\npart\r\n");
                stream.write_all(start.as_bytes()).await.unwrap();
            });
            let world = Setup::to(upstream.await).start().await;
            let mut client = Client::connect(world.address).await;
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert!(client.head().await.starts_with("HTTP/1.1 200"));
            let rest = client.rest().await;
            assert!(!rest.ends_with(b"0\r\n\r\n"), "the end of a whole body");
            assert_eq!(world.stats.rq_active.value(), 0);
            assert_eq!(world.stats.rq_rx_reset.value(), 0);
        }
    });
}

#[test]
fn an_answer_may_come_before_the_request_has_ended() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            server::read_head(&mut stream).await;
            server::respond(&mut stream, "413 Too Large", "enough").await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
        let world = Setup::to(upstream.await).start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nbegin").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (413, "enough"));
        drop(client);
        let stats = world.clusters["upstream"].stats();
        while stats.rq_active.value() + stats.cx_active.value() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on() {
    local(async {
        let world = Setup::to(server::echo_body().await).start().await;
        let mut client = Client::connect(world.address).await;
        let head =
            "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
        client.send(head).await;
        assert!(client.head().await.starts_with("HTTP/1.1 100"));
        client.send("body").await;
        assert_eq!(client.answer().await.text(), "body");
    });
}

#[test]
fn a_response_without_a_length_is_chunked_or_ends_with_the_connection() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            server::read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await.unwrap();
        });
        let mut setup = Setup::to(upstream.await);
        setup.manager.http1.accept_http_10 = true;
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.text(), "until the end");
        let mut old = Client::connect(world.address).await;
        old.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
        let head = old.head().await;
        assert_eq!(server::header(&head, "transfer-encoding"), None);
        assert_eq!(old.rest().await, b"until the end");
    });
}

/// Answers every request, over connections that it keeps open, with these bytes.
async fn answers(response: &'static str, close: bool) -> std::net::SocketAddr {
    server::raw(move |mut stream| async move {
        while server::read_head(&mut stream).await.is_some() {
            stream.write_all(response.as_bytes()).await.unwrap();
            if close {
                return;
            }
        }
    })
    .await
}

#[test]
fn an_http_10_upstream_is_nothing_to_an_http_11_client() {
    local(async {
        let world = Setup::to(answers("HTTP/1.0 200 OK\r\n\r\nten", true).await).start().await;
        let mut client = Client::connect(world.address).await;
        for _ in 0..2 {
            let answer = client.get("/").await;
            assert!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
            assert_eq!(answer.text(), "ten");
        }
    });
}

#[test]
fn trailers_end_a_response_and_leave_both_connections_open() {
    local(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let response = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n\
                        3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n";
        let mut setup = Setup::to(answers(response, false).await);
        setup.log_to(&path, "%RESPONSE_FLAGS% %BYTES_SENT%\n");
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        for _ in 0..3 {
            assert_eq!(client.get("/").await.text(), "abc");
        }
        assert_eq!(world.clusters["upstream"].stats().cx_total.value(), 1);
        weft_telemetry::flush_logs();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "- 3\n- 3\n- 3\n");
    });
}

#[test]
fn a_response_with_a_length_beside_chunks_is_refused() {
    local(async {
        let response = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n\
                        3\r\nabc\r\n0\r\n\r\n";
        let world = Setup::to(answers(response, false).await).start().await;
        let mut client = Client::connect(world.address).await;
        let answer = client.get("/").await;
        assert_eq!(answer.status(), 502);
        assert!(answer.text().ends_with("reset reason: protocol error"), "{}", answer.text());
    });
}

#[test]
fn folded_lines_of_a_response_are_unfolded() {
    local(async {
        let response = "HTTP/1.1 200 OK\r\nx-fold: a\r\n b\r\ncontent-length: 0\r\n\r\n";
        let world = Setup::to(answers(response, false).await).start().await;
        let mut client = Client::connect(world.address).await;
        let folded = client.get("/").await.header("x-fold").map(str::to_owned);
        assert!(folded.is_some_and(|value| value.split_whitespace().eq(["a", "b"])));
    });
}
