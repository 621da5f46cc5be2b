//! Requests that are tried again.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use weft_model::{RetryOn, RetryPolicy};

use crate::client::Client;
use crate::server;
use crate::world::{Setup, local};

pub(crate) fn policy(on: u32, retries: u32) -> RetryPolicy {
    RetryPolicy {
        on: RetryOn(on),
        retries,
        per_try_timeout: None,
        per_try_idle_timeout: None,
        status_codes: smallvec::SmallVec::new(),
        headers: Vec::new(),
        base_interval: Duration::from_millis(1),
        max_interval: Duration::from_millis(10),
        rate_limited: None,
        avoid_previous_hosts: true,
        avoid_canaries: false,
        avoid_labels: None,
        host_attempts: 5,
    }
}

/// Answers with these statuses, one after the other and then the last one; the body is the request's.
async fn statuses(statuses: &'static [&'static str]) -> (SocketAddr, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let seen = Rc::clone(&count);
    let address = server::raw(move |mut stream| {
        let seen = Rc::clone(&seen);
        async move {
            while let Some(head) = server::read_head(&mut stream).await {
                let body = server::read_body(&mut stream, &head).await;
                let at = seen.replace(seen.get() + 1);
                let status = statuses[at.min(statuses.len() - 1)];
                let attempt = server::header(&head, "x-envoy-attempt-count").unwrap_or("-");
                let text = format!("{attempt}:{}", String::from_utf8(body).unwrap());
                server::respond(&mut stream, status, &text).await;
            }
        }
    })
    .await;
    (address, count)
}

#[test]
fn a_covered_status_is_tried_again_with_the_same_body() {
    local(async {
        let (upstream, count) = statuses(&["503 Busy", "503 Busy", "200 OK"]).await;
        let mut setup = Setup::to(upstream);
        setup.action().retry = Some(Arc::new(policy(RetryOn::SERVER_ERROR, 2)));
        setup.host.attempt_count_upstream = true;
        setup.host.attempt_count_downstream = true;
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello").await;
        client.send("world").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (200, "3:helloworld"));
        assert_eq!(answer.header("x-envoy-attempt-count"), Some("3"));
        assert_eq!(count.get(), 3);
        let stats = world.clusters["upstream"].stats();
        assert_eq!((stats.rq_retry.value(), stats.rq_retry_success.value()), (2, 1));
    });
}

#[test]
fn when_all_tries_fail_the_last_answer_is_given() {
    local(async {
        let (upstream, count) = statuses(&["503 Busy"]).await;
        let mut setup = Setup::to(upstream);
        setup.action().retry = Some(Arc::new(policy(RetryOn::GATEWAY_ERROR, 2)));
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!((answer.status(), answer.text(), count.get()), (503, "-:", 3));
        assert_eq!(world.clusters["upstream"].stats().rq_retry_limit_exceeded.value(), 1);
    });
}

#[test]
fn a_status_that_is_not_covered_is_not_tried_again() {
    local(async {
        let (upstream, count) = statuses(&["500 Oops", "200 OK"]).await;
        let mut setup = Setup::to(upstream);
        setup.action().retry = Some(Arc::new(policy(RetryOn::GATEWAY_ERROR, 2)));
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!((answer.status(), count.get()), (500, 1));
    });
}

#[test]
fn a_retry_avoids_the_host_that_failed() {
    local(async {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = closed.local_addr().unwrap();
        drop(closed);
        let (alive, count) = statuses(&["200 OK"]).await;
        let mut setup = Setup::new();
        setup.cluster("upstream", &[dead, alive]);
        let action = setup.forward("upstream");
        setup.rule("/", action);
        setup.action().retry = Some(Arc::new(policy(RetryOn::CONNECT_FAILURE, 1)));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        for _ in 0..10 {
            assert_eq!(client.get("/").await.status(), 200);
        }
        assert_eq!(count.get(), 10);
    });
}

#[test]
fn a_body_longer_than_the_buffer_is_not_sent_again() {
    local(async {
        let (upstream, count) = statuses(&["503 Busy", "200 OK"]).await;
        let mut setup = Setup::to(upstream);
        setup.clusters.get_mut("upstream").unwrap().0.buffer_limit = 1000;
        setup.action().retry = Some(Arc::new(policy(RetryOn::SERVER_ERROR, 2)));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        let body = "x".repeat(5000);
        client
            .send(&format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5000\r\n\r\n{body}"))
            .await;
        assert_eq!((client.answer().await.status(), count.get()), (503, 1));
    });
}

#[test]
fn a_try_that_takes_too_long_is_tried_again() {
    local(async {
        let count = Rc::new(Cell::new(0));
        let seen = Rc::clone(&count);
        let upstream = server::raw(move |mut stream| {
            let first = seen.replace(seen.get() + 1) == 0;
            async move {
                server::read_head(&mut stream).await;
                if first {
                    std::future::pending::<()>().await;
                }
                server::respond(&mut stream, "200 OK", "second").await;
            }
        });
        let mut setup = Setup::to(upstream.await);
        let mut policy = policy(RetryOn::SERVER_ERROR, 1);
        policy.per_try_timeout = Some(Duration::from_millis(50));
        setup.action().retry = Some(Arc::new(policy));
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!((answer.status(), answer.text()), (200, "second"));
        assert_eq!(world.clusters["upstream"].stats().rq_active.value(), 0);
    });
}

#[test]
fn a_dead_pooled_connection_costs_the_client_nothing() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            server::read_head(&mut stream).await;
            server::respond(&mut stream, "200 OK", "only one").await;
        });
        let world = Setup::to(upstream.await).start().await;
        let mut client = Client::connect(world.address).await;
        for _ in 0..20 {
            assert_eq!(client.get("/").await.status(), 200);
        }
    });
}
