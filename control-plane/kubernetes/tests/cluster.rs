//! Against an API server's double that speaks list and watch over HTTP, with pages, bookmarks,
//! 410s, broken and slow streams.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weft_ca::{AuthenticationError, Authenticator, Caller};
use weft_control_model::{Discover, Discovery, Endpoints, Scheme};
use weft_kubernetes::{
    Client, Config, KubernetesRegistry, Lease, TokenReviews, TrustPublisher, follow,
};
use weft_spiffe::TrustDomain;
use weft_testkit::ApiServer;

const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const PODS: &str = "/api/v1/pods";
const NODES: &str = "/api/v1/nodes";
/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn client(server: &ApiServer) -> Client {
    let uri = format!("http://{}", server.address()).parse().unwrap();
    Client::try_from(Config::new(uri)).unwrap()
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"ports": [
            {"name": "http", "port": 80, "targetPort": "http"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ]},
    })
}

fn slice(endpoints: &Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": "shop", "name": "web-x1",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

fn endpoint(host: u8, conditions: &Value) -> Value {
    json!({
        "addresses": [format!("10.0.0.{host}")],
        "conditions": conditions,
        "nodeName": "node-1",
        "targetRef": {"kind": "Pod", "namespace": "shop", "name": format!("web-{host}")},
    })
}

fn pod(host: u8, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "shop", "name": format!("web-{host}"),
            "labels": {"app": "web"}, "annotations": annotations,
        },
        "spec": {"serviceAccountName": "web", "containers": []},
    })
}

fn node(name: &str) -> Value {
    let labels =
        json!({"topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "eu-1"});
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
}

struct Cluster {
    server: ApiServer,
    registry: Arc<KubernetesRegistry>,
    following: tokio::task::JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Cluster {
    async fn start() -> Self {
        let server = ApiServer::start().await;
        server.put(SERVICES, service());
        server.put(NODES, node("node-1"));
        let registry = Arc::new(KubernetesRegistry::default());
        let following = tokio::spawn(follow(client(&server), Arc::clone(&registry)));
        Self { server, registry, following }
    }

    fn endpoints(&self, name: &str) -> Endpoints {
        let service = Discovery {
            registry: "kubernetes".to_owned(),
            service_name: name.to_owned(),
            args: serde_json::Map::default().into_iter().collect(),
        };
        self.registry.endpoints(&service, Scheme::Http).unwrap()
    }

    /// Waits until the service runs at these addresses.
    async fn until(&self, name: &str, hosts: &[u8]) -> Endpoints {
        let wanted: Vec<_> = hosts.iter().map(|host| format!("10.0.0.{host}")).collect();
        let reached = async {
            loop {
                let known = self.endpoints(name);
                let addresses: Vec<_> =
                    known.iter().map(|endpoint| endpoint.address.to_string()).collect();
                if addresses == wanted {
                    return known;
                }
                self.registry.changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap()
    }
}

#[tokio::test]
async fn endpoints_are_ready_or_the_last_that_still_answer() {
    let cluster = Cluster::start().await;
    let ready = json!({"ready": true});
    let ending = json!({"ready": false, "serving": true, "terminating": true});
    let dead = json!({"ready": false, "serving": false, "terminating": true});
    cluster.server.put(PODS, pod(1, &json!({"weft.dev/status": "{}"})));
    cluster.server.put(PODS, pod(2, &json!({})));
    let endpoints = json!([endpoint(1, &ready), endpoint(2, &json!({})), endpoint(3, &ending)]);
    cluster.server.put(SLICES, slice(&endpoints));
    let known = cluster.until("shop/web:http", &[1, 2]).await;
    assert_eq!(known[0].port, 8080);
    let place = known[0].locality.as_ref().unwrap();
    assert_eq!((place.region.as_str(), place.zone.as_str()), ("eu", "eu-1"));
    assert_eq!(known[1].identity, None, "not in the mesh");
    assert_eq!(cluster.endpoints("shop/web:80"), known, "the port by its number");
    assert_eq!(cluster.endpoints("shop/web"), known, "the first port");
    assert!(cluster.endpoints("shop/web:53").is_empty() && cluster.endpoints("a/b").is_empty());
    cluster.server.put(SLICES, slice(&json!([endpoint(2, &dead), endpoint(3, &ending)])));
    cluster.until("shop/web:http", &[3]).await;
    cluster.server.delete(SLICES, "shop", "web-x1");
    cluster.until("shop/web:http", &[]).await;
}

#[tokio::test]
async fn an_injected_pod_has_an_identity() {
    let cluster = Cluster::start().await;
    cluster.server.put(SLICES, slice(&json!([endpoint(1, &json!({}))])));
    let before = cluster.until("shop/web:http", &[1]).await;
    assert_eq!(before[0].identity, None);
    cluster.server.put(PODS, pod(1, &json!({"weft.dev/status": "{}"})));
    let identified = async {
        loop {
            let known = cluster.endpoints("shop/web:http");
            if let Some(identity) = &known[0].identity {
                return identity.clone();
            }
            cluster.registry.changed().await;
        }
    };
    let identity = tokio::time::timeout(PATIENCE, identified).await.unwrap();
    assert_eq!((identity.namespace.as_str(), identity.service_account.as_str()), ("shop", "web"));
}

#[tokio::test]
async fn what_a_broken_watch_missed_is_listed_anew_after_410() {
    let cluster = Cluster::start().await;
    cluster.server.put(SLICES, slice(&json!([endpoint(1, &json!({}))])));
    cluster.until("shop/web:http", &[1]).await;
    cluster.server.refuse_watches();
    cluster.server.put(SLICES, slice(&json!([endpoint(2, &json!({}))])));
    cluster.server.forget_history();
    cluster.server.allow_watches();
    cluster.until("shop/web:http", &[2]).await;
    cluster.server.refuse_watches();
    cluster.server.delete(SLICES, "shop", "web-x1");
    cluster.server.forget_history();
    cluster.server.allow_watches();
    cluster.until("shop/web:http", &[]).await;
}

#[tokio::test]
async fn a_bookmark_spares_a_new_list() {
    let cluster = Cluster::start().await;
    cluster.server.put(SLICES, slice(&json!([endpoint(1, &json!({}))])));
    cluster.until("shop/web:http", &[1]).await;
    // Things happen elsewhere, of which the watch hears by bookmarks only.
    for number in 0..20 {
        cluster
            .server
            .put("/api/v1/namespaces", json!({"metadata": {"name": format!("n{number}")}}));
    }
    cluster.server.bookmark();
    cluster.server.put(SLICES, slice(&json!([endpoint(2, &json!({}))])));
    cluster.until("shop/web:http", &[2]).await;
    let lists = cluster.server.lists(SLICES);
    cluster.server.refuse_watches();
    cluster.server.put(SLICES, slice(&json!([endpoint(3, &json!({}))])));
    cluster.server.allow_watches();
    cluster.until("shop/web:http", &[3]).await;
    assert_eq!(cluster.server.lists(SLICES), lists);
}

#[tokio::test]
async fn large_lists_come_in_pages_and_streams_in_crumbs() {
    let cluster = Cluster::start().await;
    cluster.server.crumble();
    for number in 0..1100 {
        cluster.server.put(NODES, node(&format!("more-{number}")));
    }
    cluster.server.put(SLICES, slice(&json!([endpoint(1, &json!({}))])));
    cluster.server.refuse_watches();
    cluster.server.forget_history();
    cluster.server.allow_watches();
    let known = cluster.until("shop/web:http", &[1]).await;
    assert_eq!(known.len(), 1);
    let complete = async {
        while !cluster.registry.is_complete() || cluster.server.lists(NODES) < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, complete).await.unwrap();
}

#[tokio::test]
async fn tokens_are_reviewed_for_their_audience() {
    let server = ApiServer::start().await;
    let reviews = TokenReviews::new(client(&server), TrustDomain::new("cluster.local").unwrap());
    let ask = async |token: &str| {
        let caller = Caller { bearer_token: Some(token.to_owned()), ..Caller::default() };
        reviews.authenticate(&caller).await
    };
    let id = ask("good").await.unwrap().unwrap();
    assert_eq!(id.as_str(), "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(reviews.authenticate(&Caller::default()).await, Ok(None));
    for (token, word) in
        [("bad", "expired"), ("elsewhere", "audience"), ("person", "no service account")]
    {
        let refused = ask(token).await;
        let Err(AuthenticationError::Unauthenticated(reason)) = refused else { panic!("{token}") };
        assert!(reason.contains(word), "{reason}");
    }
}

#[tokio::test]
async fn roots_are_published_and_the_webhook_is_kept_right() {
    const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let server = ApiServer::start().await;
    let webhook = |bundle: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "weft-injector", "labels": {
                "app.kubernetes.io/part-of": "weft", "app.kubernetes.io/component": "injector",
            }},
            "webhooks": [{
                "name": "inject.weft.dev", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"caBundle": bundle, "service": {"namespace": "weft-system", "name": "weft-injector"}},
            }],
        })
    };
    server.put(WEBHOOKS, webhook(""));
    server.put("/api/v1/namespaces", json!({"metadata": {"name": "shop"}}));
    let publisher =
        TrustPublisher::new(client(&server), "roots".to_owned(), "weft-ca-root-cert".to_owned());
    let running = tokio::spawn(publisher.run());
    let path = "/api/v1/namespaces/shop/configmaps";
    let map = server.until(path, "weft-ca-root-cert", |_| true).await;
    assert_eq!(map["data"]["root-cert.pem"], "roots");
    // "roots" in base 64.
    let right = |webhook: &Value| webhook["webhooks"][0]["clientConfig"]["caBundle"] == "cm9vdHM=";
    server.until(WEBHOOKS, "weft-injector", right).await;
    server.put(WEBHOOKS, webhook("eA=="));
    server.until(WEBHOOKS, "weft-injector", right).await;
    running.abort();
}

#[tokio::test]
async fn a_lease_is_held_by_one() {
    let server = ApiServer::start().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/weft-system/leases";
    let lease = |holder: &str| Lease::new(client(&server), "weft-system", "weft", holder);
    let (tell, mut told) = tokio::sync::mpsc::channel(4);
    let hold = |holder: &'static str| {
        let (lease, tell) = (lease(holder), tell.clone());
        tokio::spawn(async move {
            let work = || async {
                tell.send(holder).await.unwrap();
                std::future::pending::<()>().await;
            };
            lease.while_held(work).await;
        })
    };
    let first = hold("one");
    assert_eq!(told.recv().await, Some("one"));
    let held = server.until(path, "weft", |_| true).await;
    assert_eq!(held["spec"]["holderIdentity"], "one");
    assert_eq!(held["spec"]["leaseDurationSeconds"], 15);
    let asked = server.requests(path);
    let second = hold("two");
    let looked = async {
        while server.requests(path) == asked {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.unwrap();
    assert!(told.try_recv().is_err());
    first.abort();
    second.abort();
}
