//! Circuit breakers and the queue.

use weft_model::{CircuitBreakers, Thresholds};
use weft_upstream::{Limit, PickContext, UpstreamError};

use crate::servers::Server;
use crate::support::{cluster, fetch, get, local, read, until, worker};

fn breakers(change: impl FnOnce(&mut Thresholds)) -> CircuitBreakers {
    let mut breakers = CircuitBreakers::default();
    change(&mut breakers.default);
    breakers
}

#[test]
fn a_request_above_the_connection_limit_waits_for_a_connection() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], |cluster| {
            cluster.breakers = breakers(|limits| limits.connections = 1);
        });
        let (_worker, cluster) = worker(&handle);
        let first = async {
            let answer = fetch(&cluster, "/wait").await;
            assert_eq!(answer, (false, "0".to_owned()));
        };
        let second = async {
            until(|| server.arrived.get() == 1).await;
            assert_eq!(fetch(&cluster, "/").await, (true, "0".to_owned()));
        };
        let opener = async {
            until(|| server.arrived.get() == 1).await;
            until(|| handle.stats().rq_pending_active.value() == 1).await;
            assert_eq!(handle.stats().cx_overflow.value(), 1);
            server.gate.notify_one();
        };
        tokio::join!(first, second, opener);
        assert_eq!(server.accepted.get(), 1);
        assert_eq!(handle.stats().rq_pending_active.value(), 0);
    });
}

#[test]
fn a_request_above_the_pending_limit_is_refused_and_comes_back() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], |cluster| {
            cluster.breakers = breakers(|limits| limits.pending = 1);
        });
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let (first, second) =
            tokio::join!(cluster.send(&picked, get("/")), cluster.send(&picked, get("/second")));
        assert_eq!(read(first.unwrap()).await, "0");
        let error = second.unwrap_err();
        assert!(matches!(error.error, UpstreamError::Overflow(Limit::Pending)), "{error}");
        assert_eq!(error.request.unwrap().uri(), "/second");
        assert_eq!(handle.stats().rq_pending_overflow.value(), 1);
    });
}

#[test]
fn requests_in_flight_are_limited_until_their_answers_end() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], |cluster| {
            cluster.breakers = breakers(|limits| limits.requests = 1);
        });
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let answer = cluster.send(&picked, get("/")).await.unwrap();
        let refused = cluster.send(&picked, get("/")).await.unwrap_err().error;
        assert!(matches!(refused, UpstreamError::Overflow(Limit::Requests)), "{refused}");
        drop(answer);
        assert_eq!(read(cluster.send(&picked, get("/")).await.unwrap()).await, "1");
    });
}

#[test]
fn retries_at_once_are_limited() {
    local(async {
        let handle = cluster(&[], |cluster| {
            cluster.breakers = breakers(|limits| limits.retries = 1);
        });
        let (_worker, cluster) = worker(&handle);
        let permit = cluster.start_retry(false);
        assert!(permit.is_some() && cluster.start_retry(false).is_none());
        assert!(cluster.start_retry(true).is_some(), "the other priority has its own limit");
        drop(permit);
        assert!(cluster.start_retry(false).is_some());
        assert_eq!(handle.stats().rq_retry_overflow.value(), 1);
    });
}

#[test]
fn one_who_stops_waiting_leaves_no_trace() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], |_| {});
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        tokio::select! {
            biased;
            _ = cluster.send(&picked, get("/")) => panic!("a connection takes longer than a poll"),
            () = std::future::ready(()) => {}
        }
        let stats = handle.stats();
        assert_eq!((stats.rq_active.value(), stats.rq_pending_active.value()), (0, 0));
        until(|| server.accepted.get() == 1).await;
        assert_eq!(fetch(&cluster, "/").await.1, "0", "the connection is kept");
    });
}
