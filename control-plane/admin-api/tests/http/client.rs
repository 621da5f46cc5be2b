//! A server on a free port of the loopback and a client for it.

use std::net::IpAddr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use weft_admin_api::{Access, AdminKey, AdminState, BoxFuture, MeshView, Role, Trial, router};
use weft_control_model as model;
use weft_store::{EmbeddedStore, Store};

pub(crate) const KEY: &str = "test-admin-key";

/// A running Admin API over an empty store.
pub(crate) struct Server {
    address: std::net::SocketAddr,
    task: tokio::task::JoinHandle<()>,
    pub(crate) store: Arc<dyn Store>,
    _folder: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error_msg"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let keys = [(KEY, Role::Admin), ("viewer-key", Role::Viewer)];
        let keys = keys.map(|(key, role)| AdminKey { name: key.into(), key: key.into(), role });
        Self::with(Access::Keys(keys.into())).await
    }

    pub(crate) async fn with(access: Access) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = EmbeddedStore::open(&folder.path().join("weft.redb")).expect("a store");
        Self::over(Arc::new(store), folder, access).await
    }

    /// Over a store in `folder`.
    pub(crate) async fn over(
        store: Arc<dyn Store>,
        folder: tempfile::TempDir,
        access: Access,
    ) -> Self {
        let state = AdminState::new(Arc::clone(&store), Arc::new(OneOfEach), access);
        let state = state.with_trial(Arc::new(NoUdp));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            axum::serve(listener, router(state)).await.expect("served");
        });
        Self { address, task, store, _folder: folder }
    }

    /// A request below `/apisix/admin` with the admin's key; `body` as it is.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let path = format!("/apisix/admin{path}");
        self.raw(method, &path, &[("x-api-key", KEY)], body).await
    }

    /// The same below `/weft/admin`.
    pub(crate) async fn weft(&self, method: &str, path: &str, body: &str) -> Answer {
        self.raw(method, &format!("/weft/admin{path}"), &[("x-api-key", KEY)], body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, &body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "admin");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        let response: Response<_> = sender.send_request(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        drop(sender);
        driver.await.expect("joined").expect("closed");
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Proxies that can do everything but UDP.
struct NoUdp;

impl Trial for NoUdp {
    fn attempt(&self, change: &model::Change) -> Result<(), String> {
        match change.value.as_ref().map(|value| &value["scheme"]) {
            Some(scheme) if scheme == "udp" => Err("scheme: no UDP".to_owned()),
            _ => Ok(()),
        }
    }
}

/// A mesh of one workload.
struct OneOfEach;

impl MeshView for OneOfEach {
    fn workloads(&self) -> Vec<model::Workload> {
        vec![model::Workload {
            id: "sidecar~10.0.0.1~web.ns~ns".to_owned(),
            namespace: "ns".to_owned(),
            service_account: "web".to_owned(),
            labels: model::Labels::new(),
            addresses: vec![model::WorkloadAddress(IpAddr::from([10, 0, 0, 1]))],
            ports: vec![],
            role: model::Role::Sidecar,
            connected_since: 1,
            version: "0.1.0".to_owned(),
        }]
    }

    fn nodes(&self) -> Vec<model::NodeStatus> {
        vec![]
    }

    fn services(&self) -> BoxFuture<'_, Vec<model::MeshService>> {
        let host = "web".to_owned();
        let virtual_address = Some(IpAddr::from([240, 0, 0, 1]));
        let service = model::MeshService { host, virtual_address, ports: vec![80], workloads: 1 };
        Box::pin(std::future::ready(vec![service]))
    }
}
