//! A control plane on free ports, a client of its Admin API, and nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;
use weft_control_plane::{Config, ControlPlane};
use weft_xds_client::{
    ClientConfig, ClientHandle, Node, Rejection, ResourceHandler, ResourceType, ResourceUpdate,
    Subscription, TcpTransport, Transport, Variant,
};
use weft_xds_proto::{Sensitive, any_to_json, json_to_struct};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running control plane with a folder of its own.
pub(crate) struct Running {
    pub(crate) folder: TempDir,
    pub(crate) control_plane: ControlPlane,
}

/// The defaults on free ports.
pub(crate) fn config(folder: &TempDir) -> Config {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
    config.admin.listen = any;
    config.xds.plaintext = Some(any);
    config.xds.tls = any;
    config.registry.grace = Duration::ZERO;
    config
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With a change of its configuration.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(&folder);
        change(&mut config);
        let control_plane = ControlPlane::start(config).await.expect("it starts");
        Self { folder, control_plane }
    }

    /// The same data under a new control plane.
    pub(crate) async fn restart(self) -> Self {
        let Self { folder, control_plane } = self;
        control_plane.shutdown().await;
        let control_plane = ControlPlane::start(config(&folder)).await.expect("it starts");
        Self { folder, control_plane }
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call("PUT", path, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let key = std::fs::read_to_string(self.folder.path().join("admin-key")).expect("a key");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = hyper::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.control_plane.admin))
            .header("x-api-key", key.trim())
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.request(request).await.expect("an answer");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Connects a node without TLS.
    pub(crate) fn node(&self, node: Node) -> TestNode {
        let address = self.control_plane.plaintext.expect("it listens");
        TestNode::connect(node, Arc::new(TcpTransport::new(address)))
    }

    /// Waits until the Admin API tells what is wanted.
    pub(crate) async fn wait_for(&self, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            let mut pause = tokio::time::interval(Duration::from_millis(10));
            loop {
                let answer = self.get(path).await;
                if fits(&answer) {
                    return answer;
                }
                pause.tick().await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(answer) => answer,
            Err(_) => panic!("{path}: {:#}", self.get(path).await),
        }
    }
}

/// What a node was sent, and how often of each type.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) resources: BTreeMap<(ResourceType, String), Value>,
    pub(crate) updates: BTreeMap<ResourceType, usize>,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Received>,
    changed: Notify,
    /// Names of resources that are rejected.
    refused: Mutex<Vec<String>>,
    /// Clusters and virtual hosts that are asked for by name.
    asked: Mutex<[BTreeSet<String>; 2]>,
}

/// A connected node that wants everything.
pub(crate) struct TestNode {
    shared: Arc<Shared>,
    client: ClientHandle,
}

struct Handler(Arc<Shared>);

impl ResourceHandler for Handler {
    fn subscriptions(&self) -> Vec<(ResourceType, Subscription)> {
        let received = self.0.received.lock();
        let clusters = received.resources.iter().filter(|((kind, _), body)| {
            *kind == ResourceType::Cluster && body["eds_cluster_config"].is_object()
        });
        let clusters = clusters.map(|((_, name), _)| name.clone());
        let [asked, hosts] = self.0.asked.lock().clone();
        vec![
            (
                ResourceType::Cluster,
                if asked.is_empty() {
                    Subscription::Wildcard
                } else {
                    Subscription::WildcardAnd(asked)
                },
            ),
            (ResourceType::VirtualHost, Subscription::Names(hosts)),
            (ResourceType::Endpoint, Subscription::names(clusters)),
            (ResourceType::Listener, Subscription::Wildcard),
            (ResourceType::Route, Subscription::names(["80", "edge.http", "edge.https"])),
            (ResourceType::Secret, Subscription::names(["ssl/shop"])),
        ]
    }

    fn apply(&mut self, update: ResourceUpdate) -> Vec<Rejection> {
        let refused = self.0.refused.lock().clone();
        let mut rejections = Vec::new();
        let mut received = self.0.received.lock();
        let kind = update.resource_type;
        *received.updates.entry(kind).or_default() += 1;
        for resource in update.added {
            if refused.contains(&resource.name) {
                rejections.push(Rejection {
                    resource_type: kind,
                    name: resource.name,
                    field: "name".to_owned(),
                    reason: "not to my taste".to_owned(),
                });
                continue;
            }
            let body = any_to_json(&resource.body, Sensitive::Keep);
            received.resources.insert((kind, resource.name), body);
        }
        for name in update.removed {
            received.resources.remove(&(kind, name));
        }
        self.0.changed.notify_waiters();
        rejections
    }
}

impl TestNode {
    pub(crate) fn connect(node: Node, transport: Arc<dyn Transport>) -> Self {
        let shared = Arc::<Shared>::default();
        let mut config = ClientConfig::new(node, Variant::Delta);
        config.backoff.initial = Duration::from_millis(10);
        let handler = Box::new(Handler(Arc::clone(&shared)));
        let client = weft_xds_client::spawn(config, transport, handler);
        Self { shared, client }
    }

    pub(crate) fn refuse(&self, name: &str) {
        self.shared.refused.lock().push(name.to_owned());
    }

    /// Asks for a cluster or a virtual host.
    pub(crate) fn ask(&self, kind: ResourceType, name: &str) {
        let place = usize::from(kind == ResourceType::VirtualHost);
        self.shared.asked.lock()[place].insert(name.to_owned());
        self.client.refresh();
    }

    /// Waits until what was received fits.
    pub(crate) async fn until<T>(&self, fits: impl Fn(&Received) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(result) = fits(&self.shared.received.lock()) {
                    return result;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(result) => result,
            Err(_) => panic!("received: {:#?}", self.shared.received.lock().resources.keys()),
        }
    }

    pub(crate) fn updates(&self) -> BTreeMap<ResourceType, usize> {
        self.shared.received.lock().updates.clone()
    }

    pub(crate) async fn leave(self) {
        self.client.shutdown().await;
    }
}

impl Received {
    pub(crate) fn of(&self, kind: ResourceType, name: &str) -> Option<&Value> {
        self.resources.get(&(kind, name.to_owned()))
    }

    /// The addresses of a cluster's endpoints.
    pub(crate) fn endpoints(&self, cluster: &str) -> Vec<String> {
        let assignment = self.of(ResourceType::Endpoint, cluster);
        let localities = assignment.and_then(|body| body["endpoints"].as_array());
        let members = localities
            .into_iter()
            .flatten()
            .flat_map(|locality| locality["lb_endpoints"].as_array().into_iter().flatten());
        members
            .map(|member| {
                let address = &member["endpoint"]["address"]["socket_address"];
                let host = address["address"].as_str().unwrap_or_default();
                format!("{host}:{}", address["port_value"])
            })
            .collect()
    }
}

/// A workload's node.
pub(crate) fn sidecar(name: &str, address: &str, labels: &Value) -> Node {
    node(&format!("sidecar~{address}~{name}.demo~demo.svc.cluster.local"), address, labels)
}

/// A node with Istio's metadata.
pub(crate) fn node(id: &str, address: &str, labels: &Value) -> Node {
    let metadata = json!({
        "NAMESPACE": "demo",
        "SERVICE_ACCOUNT": "greeter",
        "INSTANCE_IPS": address,
        "LABELS": labels,
        "POD_PORTS": "[{\"name\":\"http\",\"containerPort\":8080,\"protocol\":\"TCP\"}]",
    });
    let metadata = metadata.as_object().map(json_to_struct);
    Node { id: id.to_owned(), metadata, ..Default::default() }
}
