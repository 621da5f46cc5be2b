//! The webhook over TLS, as the API server calls it.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use weft_injector::{CertificateSource, follow, server_tls, webhook};

const NAME: &str = "weft-injector.weft-system.svc";

struct Served {
    address: std::net::SocketAddr,
    root: CertificateDer<'static>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
    _agent: weft_cert_agent::Agent,
    _folder: tempfile::TempDir,
}

async fn serve() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec![NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let source = CertificateSource::Files {
        chain: file("cert.pem", &own.pem()),
        key: file("key.pem", &key.serialize_pem()),
        roots: file("root.pem", &own.pem()),
    };
    let (tls, agent) = server_tls(&source).await.unwrap();
    let (settings, _) = follow(None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(webhook(listener, tls, settings, stop.clone().cancelled_owned()));
    Served { address, root: own.der().clone(), stop, task, _agent: agent, _folder: folder }
}

async fn post(served: &Served, path: &str, body: Vec<u8>) -> (StatusCode, Value) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(served.root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(served.address).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("host", NAME)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    connection.await.unwrap().unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn reviews_are_answered_over_tls_and_nonsense_is_refused_in_form() {
    let served = serve().await;
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "object": {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}},
        },
    });
    let (status, answer) =
        post(&served, "/inject/cluster/one/net/east", review.to_string().into_bytes()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&answer["response"]["uid"], &answer["response"]["allowed"]),
        (&json!("u-1"), &json!(true))
    );
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    let (status, answer) = post(&served, "/inject", b"\xff\xfe{".to_vec()).await;
    assert_eq!((status, &answer["kind"]), (StatusCode::BAD_REQUEST, &json!("Status")));
    served.stop.cancel();
    served.task.await.unwrap().unwrap();
}
