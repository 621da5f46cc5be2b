//! A Kubernetes API server's double: objects in memory, list with pages, watch with history.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test is a failed test"
)]

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kind and apiVersion, by a collection's last part.
const KINDS: [(&str, &str, &str); 10] = [
    ("services", "Service", "v1"),
    ("pods", "Pod", "v1"),
    ("nodes", "Node", "v1"),
    ("namespaces", "Namespace", "v1"),
    ("configmaps", "ConfigMap", "v1"),
    ("endpointslices", "EndpointSlice", "discovery.k8s.io/v1"),
    ("leases", "Lease", "coordination.k8s.io/v1"),
    ("peerauthentications", "PeerAuthentication", "weft.dev/v1"),
    ("authorizationpolicies", "AuthorizationPolicy", "weft.dev/v1"),
    (
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        "admissionregistration.k8s.io/v1",
    ),
];

#[derive(Default)]
struct Content {
    version: u64,
    /// By collection, namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    /// Version, collection, type and object.
    history: Vec<(u64, String, &'static str, Value)>,
    /// What came before is forgotten.
    oldest: u64,
    /// The version of the last bookmark.
    bookmark: u64,
    watches_allowed: bool,
    crumble: bool,
    lists: HashMap<String, usize>,
    requests: HashMap<String, usize>,
    /// The user that a token for the audience `istio-ca` proves.
    tokens: HashMap<String, String>,
}

struct Shared {
    content: parking_lot::Mutex<Content>,
    changed: watch::Sender<u64>,
}

/// A Kubernetes API server's double, ended when dropped.
pub struct ApiServer {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ApiServer {
    /// Starts on a free loopback port.
    pub async fn start() -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Starts on a listener made elsewhere, in a network namespace for example.
    #[must_use]
    pub fn serve(listener: TcpListener) -> Self {
        let content = Content { watches_allowed: true, version: 1, ..Content::default() };
        let shared = Arc::new(Shared { content: content.into(), changed: watch::Sender::new(0) });
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, shared, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// From now on this token, for the audience `istio-ca`, proves a service account.
    pub fn accept_token(&self, token: &str, namespace: &str, account: &str) {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        self.change(|content| drop(content.tokens.insert(token.to_owned(), user)));
    }

    /// Creates or replaces an object of a collection, such as `/api/v1/pods`.
    pub fn put(&self, collection: &str, object: Value) {
        self.change(|content| put(content, collection, object));
    }

    /// Removes an object.
    pub fn delete(&self, collection: &str, namespace: &str, name: &str) {
        self.change(|content| {
            let key = (collection.to_owned(), namespace.to_owned(), name.to_owned());
            let mut object = content.objects.remove(&key).unwrap();
            content.version += 1;
            object["metadata"]["resourceVersion"] = json!(content.version.to_string());
            content.history.push((content.version, collection.to_owned(), "DELETED", object));
        });
    }

    /// Ends all watches and lets none begin.
    pub fn refuse_watches(&self) {
        self.change(|content| content.watches_allowed = false);
    }

    /// Lets watches begin again.
    pub fn allow_watches(&self) {
        self.change(|content| content.watches_allowed = true);
    }

    /// From now on, watches of old versions are answered with 410.
    pub fn forget_history(&self) {
        self.change(|content| {
            content.oldest = content.version;
            content.history.clear();
        });
    }

    /// Tells all watches the version.
    pub fn bookmark(&self) {
        self.change(|content| content.bookmark = content.version);
    }

    /// Streams come in small pieces.
    pub fn crumble(&self) {
        self.change(|content| content.crumble = true);
    }

    /// Lists of a collection that were asked for, each page counted.
    #[must_use]
    pub fn lists(&self, collection: &str) -> usize {
        self.shared.content.lock().lists.get(collection).copied().unwrap_or(0)
    }

    /// All requests for objects of a collection.
    #[must_use]
    pub fn requests(&self, collection: &str) -> usize {
        self.shared.content.lock().requests.get(collection).copied().unwrap_or(0)
    }

    /// Waits until an object is as wanted.
    pub async fn until(
        &self,
        collection: &str,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut changed = self.shared.changed.subscribe();
        let found = async {
            loop {
                let found = {
                    let content = self.shared.content.lock();
                    let mut all = content.objects.iter();
                    let found = all.find(|((place, _, own), object)| {
                        place == collection && own == name && wanted(object)
                    });
                    found.map(|(_, object)| object.clone())
                };
                if let Some(found) = found {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Content)) {
        change(&mut self.shared.content.lock());
        self.shared.changed.send_modify(|count| *count += 1);
    }
}

fn put(content: &mut Content, collection: &str, mut object: Value) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let key = (collection.to_owned(), text("namespace"), text("name"));
    let last = collection.rsplit('/').next().unwrap();
    let (_, kind, version) = KINDS.iter().find(|(path, ..)| *path == last).unwrap();
    content.version += 1;
    object["kind"] = json!(kind);
    object["apiVersion"] = json!(version);
    object["metadata"]["resourceVersion"] = json!(content.version.to_string());
    let known = content.objects.insert(key, object.clone());
    let what = if known.is_some() { "MODIFIED" } else { "ADDED" };
    content.history.push((content.version, collection.to_owned(), what, object));
}

type Parameters = HashMap<String, String>;

async fn serve(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    Query(parameters): Query<Parameters>,
    body: Bytes,
) -> Response {
    let path = uri.path();
    if path.ends_with("/tokenreviews") {
        return review(&shared, &body).into_response();
    }
    if let Some(object) = path.strip_suffix("/status") {
        return write_status(&shared, object, &body);
    }
    let is_collection = KINDS.iter().any(|(last, ..)| path.ends_with(&format!("/{last}")));
    let (collection, name) = match is_collection {
        true => (path, ""),
        false => path.rsplit_once('/').unwrap(),
    };
    *shared.content.lock().requests.entry(collection.to_owned()).or_default() += 1;
    if method == Method::GET && is_collection {
        return match parameters.get("watch").map(String::as_str) {
            Some("true" | "1") => watch_collection(shared, collection.to_owned(), &parameters),
            _ => list(&shared, collection, &parameters),
        };
    }
    let found = {
        let content = shared.content.lock();
        let mut all = content.objects.iter();
        all.find(|((place, _, own), _)| place == collection && own == name)
            .map(|(_, object)| object.clone())
    };
    if method == Method::GET {
        return found.map_or_else(|| status(404, "NotFound"), |object| json_response(&object));
    }
    let mut object: Value = serde_json::from_slice(&body).unwrap();
    let told = &object["metadata"]["resourceVersion"];
    if let Some(found) = &found
        && (method == Method::POST
            || (told.is_string() && *told != found["metadata"]["resourceVersion"]))
    {
        return status(409, "Conflict");
    }
    if object["metadata"]["namespace"].is_null()
        && let Some(namespace) = path.split("/namespaces/").nth(1)
    {
        object["metadata"]["namespace"] = json!(namespace.split('/').next());
    }
    put(&mut shared.content.lock(), collection, object.clone());
    shared.changed.send_modify(|count| *count += 1);
    json_response(&object)
}

/// Replaces an object's status, wherever the object was put.
fn write_status(shared: &Shared, path: &str, body: &[u8]) -> Response {
    let told: Value = serde_json::from_slice(body).unwrap();
    let parts: Vec<_> = path.rsplit('/').collect();
    let [name, last, namespace, ..] = parts[..] else { return status(404, "NotFound") };
    let mut content = shared.content.lock();
    let mut all = content.objects.iter();
    let found = all.find(|((place, of, own), _)| {
        place.ends_with(&format!("/{last}")) && of == namespace && own == name
    });
    let Some((place, mut object)) = found.map(|((place, ..), one)| (place.clone(), one.clone()))
    else {
        return status(404, "NotFound");
    };
    object["status"] = told["status"].clone();
    put(&mut content, &place, object.clone());
    drop(content);
    shared.changed.send_modify(|count| *count += 1);
    json_response(&object)
}

fn list(shared: &Shared, collection: &str, parameters: &Parameters) -> Response {
    let mut content = shared.content.lock();
    *content.lists.entry(collection.to_owned()).or_default() += 1;
    let number = |name: &str| parameters.get(name).and_then(|value| value.parse::<usize>().ok());
    let (start, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
    let of_collection = content.objects.iter().filter(|((place, ..), _)| place == collection);
    let all: Vec<_> = of_collection.map(|(_, object)| object.clone()).collect();
    let end = all.len().min(start.saturating_add(limit));
    let mut metadata = json!({"resourceVersion": content.version.to_string()});
    if end < all.len() {
        metadata["continue"] = json!(end.to_string());
    }
    json_response(
        &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": all[start..end]}),
    )
}

fn watch_collection(shared: Arc<Shared>, collection: String, parameters: &Parameters) -> Response {
    let from = parameters.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    if !shared.content.lock().watches_allowed {
        return status(503, "ServiceUnavailable");
    }
    let (sender, receiver) = mpsc::channel::<Result<Bytes, Infallible>>(16);
    tokio::spawn(follow(shared, collection, from, sender));
    Body::from_stream(ReceiverStream::new(receiver)).into_response()
}

async fn follow(
    shared: Arc<Shared>,
    collection: String,
    mut from: u64,
    sender: mpsc::Sender<Result<Bytes, Infallible>>,
) {
    let mut changed = shared.changed.subscribe();
    let mut bookmark = shared.content.lock().bookmark;
    loop {
        changed.borrow_and_update();
        let (events, end, crumble) = next(&shared, &collection, &mut from, &mut bookmark);
        for event in events {
            let line = format!("{event}\n").into_bytes();
            let size = if crumble { 7 } else { line.len() };
            for piece in line.chunks(size) {
                if sender.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                    return;
                }
            }
        }
        if end {
            return;
        }
        tokio::select! {
            () = sender.closed() => return,
            changed = changed.changed() => if changed.is_err() { return },
        }
    }
}

/// What a watch is told now, and whether it ends.
fn next(
    shared: &Shared,
    collection: &str,
    from: &mut u64,
    bookmark: &mut u64,
) -> (Vec<Value>, bool, bool) {
    let content = shared.content.lock();
    if !content.watches_allowed {
        return (Vec::new(), true, false);
    }
    if *from < content.oldest {
        let expired = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "too old resource version", "reason": "Expired", "code": 410});
        return (vec![json!({"type": "ERROR", "object": expired})], true, false);
    }
    let new = content
        .history
        .iter()
        .filter(|(version, place, ..)| *version > *from && place == collection);
    let mut events: Vec<_> =
        new.map(|(_, _, what, object)| json!({"type": what, "object": object})).collect();
    if content.bookmark > *bookmark {
        *bookmark = content.bookmark;
        let last = collection.rsplit('/').next().unwrap();
        let (_, kind, version) = KINDS.iter().find(|(path, ..)| *path == last).unwrap();
        let mark = json!({"kind": kind, "apiVersion": version,
            "metadata": {"resourceVersion": content.version.to_string()}});
        events.push(json!({"type": "BOOKMARK", "object": mark}));
    }
    *from = content.version;
    (events, false, content.crumble)
}

fn review(shared: &Shared, body: &[u8]) -> Response {
    let mut review: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(review["spec"]["audiences"], json!(["istio-ca"]));
    let user = |name: &str| json!({"username": name});
    let token = review["spec"]["token"].as_str().unwrap();
    let known = shared.content.lock().tokens.get(token).cloned();
    let status = match token {
        _ if known.is_some() => {
            json!({"authenticated": true, "audiences": ["istio-ca"], "user": {"username": known}})
        }
        "good" => {
            json!({"authenticated": true, "audiences": ["istio-ca"], "user": user("system:serviceaccount:shop:web")})
        }
        "elsewhere" => {
            json!({"authenticated": true, "user": user("system:serviceaccount:shop:web")})
        }
        "person" => json!({"authenticated": true, "audiences": ["istio-ca"], "user": user("root")}),
        _ => json!({"authenticated": false, "error": "the token has expired"}),
    };
    review["status"] = status;
    (StatusCode::CREATED, [("content-type", "application/json")], review.to_string())
        .into_response()
}

fn json_response(value: &Value) -> Response {
    ([("content-type", "application/json")], value.to_string()).into_response()
}

fn status(code: u16, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code});
    let code = StatusCode::from_u16(code).unwrap();
    (code, [("content-type", "application/json")], body.to_string()).into_response()
}
