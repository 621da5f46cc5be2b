//! Two control planes on one etcd, each a process of its own.

#[path = "../../../store/src/etcd/tests/server.rs"]
#[expect(dead_code, reason = "the store's own tests use more of it")]
mod server;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use server::Server;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use weft_control_plane::EtcdConfig;
use weft_xds_client::{BoxFuture, BoxedIo, ResourceType, TcpTransport, Transport, TransportError};

use crate::support::{Running, TestNode, sidecar};

/// A running program.
struct Program {
    process: Child,
    admin: String,
    xds: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    _folder: TempDir,
}

impl Program {
    async fn start(etcd: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("config.yaml");
        let text = format!(
            "data_dir: {}\ndeployment: {{etcd: {{host: [\"{etcd}\"], timeout: 10}}}}\n\
             admin: {{listen: 127.0.0.1:0, key_required: false}}\n\
             xds: {{plaintext: 127.0.0.1:0, tls: 127.0.0.1:0}}\n",
            folder.path().join("data").display()
        );
        std::fs::write(&path, text).expect("written");
        let mut process = Command::new(env!("CARGO_BIN_EXE_weft-control-plane"))
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let (admin, xds) = loop {
            let line = lines.next_line().await.expect("a log").expect("it serves");
            if let Some((_, rest)) = line.split_once("serving admin=") {
                let (_, xds) = rest.split_once("plaintext=Some(").expect("where nodes connect");
                let xds = xds.split(')').next().expect("an address").parse().expect("one");
                break (rest.split(' ').next().expect("an address").to_owned(), xds);
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { process, admin, xds, client, _folder: folder }
    }

    /// A request below `/apisix/admin`; nothing if it isn't answered.
    async fn call(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = hyper::Request::builder()
            .method(method)
            .uri(format!("http://{}/apisix/admin{path}", self.admin))
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        let answer = self.client.request(request).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    fn kill(&self) {
        let id = self.process.id().expect("it runs").to_string();
        let killed = std::process::Command::new("kill").args(["-9", &id]).status();
        assert!(killed.expect("kill runs").success());
    }

    async fn routes(&self) -> BTreeSet<String> {
        let (status, answer) = self.call("GET", "/routes", &Value::Null).await.expect("an answer");
        assert_eq!(status, 200, "{answer}");
        let list = answer["list"].as_array().expect("a list").iter();
        list.map(|item| item["key"].as_str().expect("a key").to_owned()).collect()
    }
}

fn route() -> Value {
    json!({"uri": "/a", "upstream": {"nodes": {"127.0.0.1:80": 1}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn both_see_all_writes_and_ids_do_not_collide() {
    let etcd = Server::start().await;
    let (a, b) = (Program::start(&etcd.url).await, Program::start(&etcd.url).await);
    let post = async |program: &Program| {
        let (status, answer) = program.call("POST", "/routes", &route()).await.expect("an answer");
        assert_eq!(status, 201, "{answer}");
        answer["key"].as_str().expect("a key").to_owned()
    };
    let posts = (0..100).map(|index| post(if index % 2 == 0 { &a } else { &b }));
    let keys: BTreeSet<_> = join_all(posts).await.into_iter().collect();
    assert_eq!(keys.len(), 100);
    assert_eq!((a.routes().await, b.routes().await), (keys.clone(), keys.clone()));
    // Each knows the revision that the other wrote.
    let path = keys.first().expect("a key").trim_start_matches("/apisix").to_owned();
    let patch = async |program: &Program, name: &str| {
        let answer = program.call("PATCH", &path, &json!({"labels": {name: "x"}})).await;
        answer.expect("an answer").0
    };
    assert_eq!((patch(&a, "a").await, patch(&b, "b").await), (200, 200));
    let (_, answer) = a.call("GET", &path, &Value::Null).await.expect("an answer");
    assert_eq!(answer["value"]["labels"], json!({"a": "x", "b": "x"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_acknowledged_before_it_was_killed_the_other_has() {
    let etcd = Server::start().await;
    let (mut a, b) = (Program::start(&etcd.url).await, Program::start(&etcd.url).await);
    let mut acknowledged = Vec::new();
    {
        let put = async |index: u32| {
            let path = format!("/routes/{index}");
            let answer = a.call("PUT", &path, &route()).await;
            answer.filter(|(status, _)| *status == 201).map(|_| format!("/apisix{path}"))
        };
        let mut writes = stream::iter(0..1000).map(put).buffer_unordered(32);
        while let Some(written) = writes.next().await {
            acknowledged.extend(written);
            if acknowledged.len() == 200 {
                a.kill();
            }
        }
    }
    a.process.wait().await.expect("it ended");
    assert!((200..1000).contains(&acknowledged.len()), "{}", acknowledged.len());
    let kept = b.routes().await;
    assert_eq!(acknowledged.iter().find(|key| !kept.contains(*key)), None);
}

/// Leads to one control plane after the other.
struct InTurn {
    addresses: [SocketAddr; 2],
    attempts: AtomicUsize,
}

impl Transport for InTurn {
    fn connect(&self) -> BoxFuture<'_, Result<BoxedIo, TransportError>> {
        let turn = self.attempts.fetch_add(1, Ordering::Relaxed);
        let transport = TcpTransport::new(self.addresses[turn % 2]);
        Box::pin(async move { transport.connect().await })
    }

    fn authority(&self) -> hyper::Uri {
        hyper::Uri::from_static("http://control-plane/")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_that_is_killed_within_a_burst_move_over_and_converge() {
    let etcd = Server::start().await;
    let (mut a, b) = (Program::start(&etcd.url).await, Program::start(&etcd.url).await);
    let connect = |index: u8| {
        let transport = InTurn { addresses: [a.xds, b.xds], attempts: AtomicUsize::new(0) };
        let node = sidecar(&format!("n{index}"), &format!("10.0.0.{index}"), &json!({}));
        TestNode::connect(node, Arc::new(transport))
    };
    let nodes: Vec<_> = (1..=4).map(connect).collect();
    for node in &nodes {
        node.until(|received| received.of(ResourceType::Route, "80").map(drop)).await;
    }
    {
        let put = async |index: u32| {
            let redirect = json!({"redirect": {"uri": format!("/version-{index}")}});
            let host = format!("host-{}", index % 50);
            let route = json!({"uri": "/*", "host": host, "plugins": redirect});
            let answer = b.call("PUT", &format!("/routes/{host}"), &route).await;
            assert!(matches!(answer, Some((200 | 201, _))), "{answer:?}");
            index
        };
        // One after the other for each host, so that the last write is known.
        let mut writes = stream::iter(0..400).map(put).buffered(16);
        while let Some(written) = writes.next().await {
            if written == 200 {
                a.kill();
            }
        }
    }
    a.process.wait().await.expect("it ended");
    for node in &nodes {
        node.until(|received| {
            let table = received.of(ResourceType::Route, "80")?.to_string();
            (350..400).all(|index| table.contains(&format!("/version-{index}\""))).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_etcd_reads_are_answered_and_writes_fail_in_apisix_s_words() {
    let mut etcd = Server::start().await;
    let program = Program::start(&etcd.url).await;
    program.call("PUT", "/routes/1", &route()).await.expect("written");
    etcd.kill().await;
    let (status, answer) = program.call("PUT", "/routes/2", &route()).await.expect("an answer");
    let error = answer["error_msg"].as_str().expect("an error");
    assert_eq!(status, 503);
    assert!(error.starts_with("has no healthy etcd endpoint available"), "{error}");
    assert_eq!(program.routes().await.len(), 1);
    etcd.restart().await;
    let (status, answer) = program.call("PUT", "/routes/2", &route()).await.expect("an answer");
    assert_eq!(status, 201, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_and_addresses_of_one_are_known_to_both() {
    let etcd = Server::start().await;
    let start = || {
        Running::start_with(|config| {
            let host = vec![etcd.url.clone()];
            config.deployment.etcd = Some(EtcdConfig { host, ..EtcdConfig::default() });
        })
    };
    let (a, b) = (start().await, start().await);
    let node = |running: &Running, address: &str| {
        let labels = json!({"app": "greeter"});
        running.node(sidecar(&format!("greeter-{address}"), address, &labels))
    };
    let (first, second) = (node(&a, "10.0.0.1"), node(&b, "10.0.0.2"));
    let upstream = json!({"discovery_type": "mesh", "service_name": "demo/greeter:8080"});
    let route = json!({"uri": "/*", "hosts": ["greeter"], "upstream": upstream});
    a.put("/apisix/admin/routes/greeter", route).await;
    let mut shown = Vec::new();
    for running in [&a, &b] {
        let both = |answer: &Value| answer["list"][0]["value"]["workloads"] == 2;
        shown.push(running.wait_for("/weft/admin/services", both).await);
    }
    assert_eq!(shown[0], shown[1], "the virtual address among it");
    // What leaves the one is gone at the other.
    drop(first);
    b.wait_for("/weft/admin/workloads", |answer| answer["total"] == 1).await;
    drop(second);
}
