//! Active health checks against real servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weft_model::{
    CheckKind, CheckPace, Cluster, ClusterHandle, Discovery, EndpointAddress, GrpcCheck,
    HealthCheck, HealthFlags, HttpCheck, StatusRange, TcpCheck,
};
use weft_upstream::{PickContext, UpstreamError, spawn_health};

use crate::servers::{Server, nobody};
use crate::support::{cluster, endpoint_set, fetch, local, serving, until, worker};

/// Checks in quick succession.
fn check(kind: CheckKind) -> HealthCheck {
    let often = Duration::from_millis(2);
    HealthCheck {
        timeout: Duration::from_secs(20),
        pace: CheckPace {
            interval: often,
            initial_jitter: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_percent: 0,
            no_traffic: often,
            no_traffic_healthy: often,
            unhealthy: often,
            unhealthy_edge: often,
            healthy_edge: often,
        },
        unhealthy_threshold: 2,
        healthy_threshold: 2,
        alt_port: None,
        reuse_connection: true,
        log_failures: false,
        alpn: None,
        socket_labels: None,
        kind,
        raw: Bytes::new(),
    }
}

fn http_check(path: &'static str) -> HttpCheck {
    HttpCheck {
        method: Method::GET,
        host: None,
        path: http::uri::PathAndQuery::from_static(path),
        add: Vec::new(),
        remove: Vec::new(),
        expected: vec![StatusRange { start: 200, end: 201 }],
        retriable: Vec::new(),
        receive: Vec::new(),
        buffer: 1024,
        http2: false,
        service: None,
    }
}

fn checked(check: HealthCheck) -> impl FnOnce(&mut Cluster) {
    move |cluster| {
        cluster.health_check = Some(Arc::new(check));
        cluster.panic_threshold = 0.0;
    }
}

fn flags(handle: &ClusterHandle, address: SocketAddr) -> u32 {
    handle.host_flags(&EndpointAddress::Socket(address)).0
}

fn counter(handle: &ClusterHandle, name: &str) -> u64 {
    handle.stats_scope().counter(name).value()
}

#[test]
fn a_host_serves_once_its_first_check_has_succeeded() {
    local(async {
        let (server, refused) = (Server::http1().await, nobody().await);
        let check = check(CheckKind::Http(http_check("/healthz")));
        let handle = cluster(&[server.address, refused], checked(check));
        let (_worker, cluster) = worker(&handle);
        assert!(!handle.is_checked());
        let error = cluster.pick(&PickContext::default()).unwrap_err();
        assert!(matches!(error, UpstreamError::NoHealthyUpstream), "nothing is known yet");
        let publisher = serving(&handle);
        let _watch = spawn_health(publisher.watch());
        until(|| handle.is_checked()).await;
        for _ in 0..4 {
            let picked = cluster.pick(&PickContext::default()).unwrap();
            assert_eq!(picked.address(), Some(server.address));
        }
        assert_eq!(flags(&handle, server.address), 0);
        assert_eq!(flags(&handle, refused), HealthFlags::FAILED_ACTIVE);
        assert!(counter(&handle, "health_check.network_failure") > 0);
        assert_eq!(handle.stats().cx_total.value(), 0, "checks are no traffic");
        until(|| server.arrived.get() > 5).await;
        assert_eq!(server.accepted.get(), 1, "one connection serves all checks");
    });
}

#[test]
fn a_wrong_status_fails_at_once_and_a_right_one_has_to_repeat() {
    local(async {
        let server = Server::http1().await;
        let handle = cluster(&[server.address], checked(check(CheckKind::Http(http_check("/")))));
        let publisher = serving(&handle);
        let _watch = spawn_health(publisher.watch());
        until(|| flags(&handle, server.address) == 0).await;
        let (_worker, cluster) = worker(&handle);
        fetch(&cluster, "/").await;
        server.status.set(StatusCode::SERVICE_UNAVAILABLE);
        until(|| flags(&handle, server.address) != 0).await;
        assert!(cluster.pick(&PickContext::default()).is_err());
        assert_eq!(handle.stats().membership_healthy.value(), 0);
        server.status.set(StatusCode::OK);
        until(|| flags(&handle, server.address) == 0).await;
        fetch(&cluster, "/").await;
        assert!(counter(&handle, "health_check.success") >= 3);
        assert_eq!(handle.stats().membership_healthy.value(), 1);
    });
}

#[test]
fn checks_say_what_they_are_told_to_say() {
    local(async {
        let server = Server::http1().await;
        let mut http = http_check("/echo");
        http.method = Method::POST;
        http.host = Some(HeaderValue::from_static("health.example"));
        http.add = vec![(HeaderName::from_static("x-probe"), HeaderValue::from_static("1"), false)];
        http.expected = vec![StatusRange { start: 200, end: 300 }];
        let handle = cluster(&[server.address], checked(check(CheckKind::Http(http))));
        let publisher = serving(&handle);
        let _watch = spawn_health(publisher.watch());
        until(|| flags(&handle, server.address) == 0).await;
        let seen = server.seen.borrow().clone();
        let seen = seen.expect("a request");
        assert_eq!(seen.headers["host"], "health.example");
        assert_eq!(seen.headers["user-agent"], "Envoy/HC");
        assert_eq!(seen.headers["x-probe"], "1");
        assert_eq!(seen.method, Method::POST);
    });
}

#[test]
fn http2_hosts_are_checked_over_http2() {
    local(async {
        let server = Server::http2(10).await;
        let http = HttpCheck { http2: true, ..http_check("/") };
        let handle = cluster(&[server.address], checked(check(CheckKind::Http(http))));
        let publisher = serving(&handle);
        let _watch = spawn_health(publisher.watch());
        until(|| flags(&handle, server.address) == 0).await;
        until(|| server.arrived.get() > 3).await;
        assert_eq!(server.accepted.get(), 1);
    });
}

#[test]
fn tcp_hosts_are_checked_by_what_they_say() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::task::spawn_local(async move {
                    let mut question = [0; 4];
                    while stream.read_exact(&mut question).await.is_ok() {
                        assert_eq!(&question, b"PING");
                        stream.write_all(b"+PO").await.unwrap();
                        stream.write_all(b"NG\r\n").await.unwrap();
                    }
                });
            }
        });
        let kind = |receive: &'static str| {
            CheckKind::Tcp(TcpCheck {
                send: Bytes::from_static(b"PING"),
                receive: vec![Bytes::from_static(receive.as_bytes())],
            })
        };
        let good = cluster(&[address], checked(check(kind("PONG"))));
        let publisher = serving(&good);
        let _watch = spawn_health(publisher.watch());
        until(|| flags(&good, address) == 0).await;
        let mut never = check(kind("NOPE"));
        never.timeout = Duration::from_millis(20);
        let bad = cluster(&[address], checked(never));
        let publisher = serving(&bad);
        let _watch = spawn_health(publisher.watch());
        let late = HealthFlags::FAILED_ACTIVE | HealthFlags::ACTIVE_TIMEOUT;
        until(|| flags(&bad, address) == late).await;
    });
}

#[test]
fn grpc_hosts_are_asked_for_their_health() {
    local(async {
        let (reporter, service) = tonic_health::server::health_reporter();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
        );
        let kind = CheckKind::Grpc(GrpcCheck {
            service: "weft.Greeter".to_owned(),
            authority: None,
            metadata: Vec::new(),
        });
        let handle = cluster(&[address], checked(check(kind)));
        let publisher = serving(&handle);
        let _watch = spawn_health(publisher.watch());
        until(|| handle.is_checked()).await;
        assert_eq!(flags(&handle, address), HealthFlags::FAILED_ACTIVE, "it is not known there");
        let serving = tonic_health::ServingStatus::Serving;
        reporter.set_service_status("weft.Greeter", serving).await;
        until(|| flags(&handle, address) == 0).await;
        let stopped = tonic_health::ServingStatus::NotServing;
        reporter.set_service_status("weft.Greeter", stopped).await;
        until(|| flags(&handle, address) == HealthFlags::FAILED_ACTIVE).await;
    });
}

#[test]
fn a_removed_host_stays_as_long_as_its_check_succeeds() {
    local(async {
        let (a, b) = (Server::http1().await, Server::http1().await);
        let check = check(CheckKind::Http(http_check("/")));
        let handle = cluster(&[a.address, b.address], |cluster| {
            checked(check)(cluster);
            cluster.discovery = Discovery::Eds("test".into());
        });
        let publisher = serving(&handle);
        let _watch = spawn_health(publisher.watch());
        until(|| handle.is_checked()).await;
        handle.set_endpoints(Arc::new(endpoint_set(&[a.address])));
        assert_eq!(handle.endpoints().iter().count(), 2);
        assert_eq!(flags(&handle, b.address), HealthFlags::PENDING_REMOVAL);
        b.status.set(StatusCode::INTERNAL_SERVER_ERROR);
        until(|| handle.endpoints().iter().count() == 1).await;
        assert_eq!(flags(&handle, a.address), 0);
    });
}

#[test]
fn new_hosts_are_checked_too_and_a_host_may_be_left_out() {
    local(async {
        let (a, b) = (Server::http1().await, Server::http1().await);
        let handle = cluster(&[a.address], checked(check(CheckKind::Http(http_check("/")))));
        let publisher = serving(&handle);
        let _watch = spawn_health(publisher.watch());
        until(|| handle.is_checked()).await;
        handle.set_endpoints(Arc::new(endpoint_set(&[a.address, b.address])));
        until(|| b.arrived.get() > 0 && handle.is_checked()).await;
        let mut set = endpoint_set(&[a.address, nobody().await]);
        let unchecked = &mut set.priorities[0].endpoints[1];
        let own = weft_model::EndpointCheck { disabled: true, ..Default::default() };
        Arc::make_mut(unchecked).check = Some(Box::new(own));
        handle.set_endpoints(Arc::new(set));
        assert!(handle.is_checked());
        assert_eq!(handle.stats().membership_healthy.value(), 2);
    });
}

#[test]
fn a_response_may_take_its_host_out_of_use() {
    local(async {
        let server = Server::http1().await;
        let mut quiet = check(CheckKind::Http(http_check("/")));
        quiet.pace.interval = Duration::from_secs(3600);
        quiet.pace.no_traffic_healthy = Duration::from_secs(3600);
        let handle = cluster(&[server.address], checked(quiet));
        let publisher = serving(&handle);
        let _watch = spawn_health(publisher.watch());
        until(|| flags(&handle, server.address) == 0).await;
        let (_worker, cluster) = worker(&handle);
        fetch(&cluster, "/fail").await;
        assert!(cluster.pick(&PickContext::default()).is_err());
        assert_eq!(counter(&handle, "health_check.passive_failure"), 1);
    });
}
