use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use weft_model::{
    Cluster, ClusterHandle, Endpoint, EndpointAddress, EndpointSet, HealthFlags, Priority, Snapshot,
};
use weft_telemetry::{Metric, MetricName, Registry};

use super::*;

struct Proxy {
    registry: Registry,
    draining: AtomicBool,
}

impl AdminState for Proxy {
    fn readiness(&self) -> Readiness {
        if self.draining.load(Ordering::Relaxed) { Readiness::Draining } else { Readiness::Live }
    }
    fn config_dump(&self) -> Value {
        json!({"configs": [{"@type": "x", "dynamic_listeners": [{"name": "a"}]}]})
    }
    fn snapshot(&self) -> Arc<Snapshot> {
        let address = EndpointAddress::Socket(([10, 0, 0, 1], 80).into());
        let endpoints = vec![Arc::new(Endpoint::at(address))];
        let set = EndpointSet {
            priorities: vec![Priority { endpoints, ..Priority::default() }],
            overprovisioning_factor: 140,
            ..EndpointSet::default()
        };
        let cluster = Arc::new(Cluster::named("greeter"));
        let handle = ClusterHandle::new(cluster, Arc::new(set), self.registry.clone());
        for state in handle.host_states(&handle.endpoints()) {
            state.change_flags(HealthFlags::FAILED_OUTLIER, 0);
            state.counters(0).rq_total.inc();
        }
        let mut snapshot = Snapshot::default();
        snapshot.clusters.insert_mut("greeter".into(), Arc::new(handle));
        Arc::new(snapshot)
    }
    fn metrics(&self) -> Vec<(MetricName, Metric)> {
        self.registry.all()
    }
    fn certificates(&self) -> Vec<CertificateEntry> {
        let facts = CertificateFacts {
            path: "default".to_owned(),
            serial: "0a".to_owned(),
            dns_sans: vec![],
            uri_sans: vec!["spiffe://weft/ns/a/sa/b".to_owned()],
            not_before: UNIX_EPOCH,
            not_after: UNIX_EPOCH + Duration::from_secs(60),
        };
        vec![CertificateEntry { ca: vec![], chain: vec![facts] }]
    }
    fn server_info(&self) -> Value {
        json!({"version": "1"})
    }
    fn drain(&self, _request: DrainRequest) {
        self.draining.store(true, Ordering::Relaxed);
    }
    fn quit(&self) {}
    fn set_healthy(&self, _healthy: bool) {}
    fn set_log_level(&self, level: &str) -> Result<(), String> {
        Err(format!("{level} is not a level"))
    }
}

struct Interface(Router);

impl Interface {
    fn new() -> Self {
        let registry = Registry::new();
        registry.scope("server", None).counter("x").inc();
        Self(router(Arc::new(Proxy { registry, draining: AtomicBool::new(false) })))
    }

    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let request =
            Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
        let response = self.0.clone().oneshot(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }
}

#[tokio::test]
async fn readiness_fails_while_draining() {
    let admin = Interface::new();
    assert_eq!(admin.ask("GET", "/ready").await, (200, "LIVE\n".to_owned()));
    assert_eq!(admin.ask("POST", "/drain_listeners?graceful").await.0, 200);
    assert_eq!(admin.ask("GET", "/ready").await, (503, "DRAINING\n".to_owned()));
}

#[tokio::test]
async fn commands_need_post() {
    let admin = Interface::new();
    for path in
        ["/drain_listeners", "/quitquitquit", "/healthcheck/fail", "/logging", "/reopen_logs"]
    {
        let answer = admin.ask("GET", path).await;
        assert_eq!(answer, (405, "Method GET not allowed, POST required.".to_owned()), "{path}");
    }
    assert_eq!(
        admin.ask("POST", "/logging?level=loud").await,
        (400, "loud is not a level\n".to_owned())
    );
}

#[tokio::test]
async fn every_listed_path_answers() {
    let admin = Interface::new();
    for (path, post, _) in PATHS {
        let (status, body) = admin.ask(if *post { "POST" } else { "GET" }, path).await;
        assert!(!matches!(status, 404 | 405 | 500), "{path}: {status} {body}");
    }
    let (status, body) = admin.ask("GET", "/nowhere").await;
    assert_eq!(status, 404);
    assert!(body.contains("/config_dump"), "the answer lists what there is");
}

#[tokio::test]
async fn statistics_come_in_three_formats() {
    let admin = Interface::new();
    assert_eq!(admin.ask("GET", "/stats").await.1, "server.x: 1\n");
    assert!(admin.ask("GET", "/stats/prometheus").await.1.contains("envoy_server_x 1\n"));
    assert!(admin.ask("GET", "/stats?format=json").await.1.contains("\"value\":1"));
    assert_eq!(admin.ask("GET", "/stats?filter=nothing").await.1, "");
    assert_eq!(admin.ask("GET", "/stats?filter=(").await.0, 400);
}

#[tokio::test]
async fn dumps_and_certificates_have_envoys_shape() {
    let admin = Interface::new();
    let (_, body) = admin.ask("GET", "/config_dump?resource=dynamic_listeners").await;
    assert_eq!(body, "{\"configs\":[{\"name\":\"a\"}]}");
    assert_eq!(admin.ask("GET", "/config_dump?resource=nothing").await.0, 404);
    let (_, body) = admin.ask("GET", "/certs").await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let shown = &body["certificates"][0]["cert_chain"][0];
    assert_eq!(shown["subject_alt_names"][0]["uri"], "spiffe://weft/ns/a/sa/b");
    assert_eq!(shown["expiration_time"], "1970-01-01T00:01:00Z");
}

#[tokio::test]
async fn clusters_show_what_is_known_of_each_host() {
    let admin = Interface::new();
    let (_, text) = admin.ask("GET", "/clusters").await;
    for line in [
        "greeter::10.0.0.1:80::rq_total::1",
        "greeter::10.0.0.1:80::cx_active::0",
        "greeter::10.0.0.1:80::health_flags::/failed_outlier_check",
        "greeter::10.0.0.1:80::success_rate::-1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is missing:\n{text}");
    }
    let (_, body) = admin.ask("GET", "/clusters?format=json").await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let host = &body["cluster_statuses"][0]["host_statuses"][0];
    assert_eq!(host["health_status"]["failed_outlier_check"], true);
    assert!(host["stats"].as_array().expect("a list").contains(&json!({
        "name": "rq_total", "value": "1"
    })));
}
