use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tonic::metadata::MetadataMap;
use weft_control_plane::issue_token;
use weft_tls::{ClientTls, ClientTlsSpec, SanMatcher, TrustBundle, ValidationSpec};
use weft_xds_client::{BoxFuture, BoxedIo, ResourceType, Transport, TransportError};

use super::support::{Running, TestNode, node, sidecar};

/// TLS with a token.
struct WithToken {
    address: SocketAddr,
    tls: ClientTls,
    token: String,
}

impl Transport for WithToken {
    fn connect(&self) -> BoxFuture<'_, Result<BoxedIo, TransportError>> {
        Box::pin(async {
            let failed = |reason: String| TransportError::Credentials(reason);
            let stream = TcpStream::connect(self.address).await;
            let stream = stream.map_err(|error| failed(error.to_string()))?;
            let name = Some("weft-control-plane");
            let stream = self.tls.connect(stream, name, None).await;
            let stream = stream.map_err(|error| failed(error.to_string()))?;
            Ok(Box::new(stream) as BoxedIo)
        })
    }

    fn authority(&self) -> http::Uri {
        http::Uri::from_static("https://weft-control-plane/")
    }

    fn metadata(&self) -> Result<MetadataMap, TransportError> {
        let mut metadata = MetadataMap::new();
        let value = format!("Bearer {}", self.token).parse().expect("a header");
        metadata.insert("authorization", value);
        Ok(metadata)
    }
}

fn transport(running: &Running, namespace: &str, account: &str) -> Arc<WithToken> {
    let folder = running.folder.path();
    let roots = std::fs::read(folder.join("ca/root-cert.pem")).expect("a root");
    let roots = TrustBundle::from_pem(&roots).expect("roots");
    let server = SanMatcher::dns("weft-control-plane");
    let spec = ClientTlsSpec {
        validation: Some(ValidationSpec::new(roots, vec![server])),
        alpn: vec![b"h2".to_vec()],
        ..ClientTlsSpec::default()
    };
    Arc::new(WithToken {
        address: running.control_plane.tls,
        tls: ClientTls::new(&spec).expect("a client"),
        token: issue_token(folder, namespace, account, Duration::from_secs(60)).expect("a token"),
    })
}

async fn upload_certificate(running: &Running) {
    let ssl = json!({
        "sni": "shop.example",
        "cert": include_str!("../../../translate/tests/golden/shop.crt"),
        "key": include_str!("../../../translate/tests/golden/shop.key"),
    });
    running.put("/apisix/admin/ssls/shop", ssl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_edge_is_sent_the_keys_of_certificates() {
    let running = Running::start().await;
    upload_certificate(&running).await;
    let edge = node("router~10.0.0.9~edge.weft-edge~weft-edge.svc", "10.0.0.9", &json!({}));
    let edge = of_namespace(edge, "weft-edge", "edge");
    let edge = TestNode::connect(edge, transport(&running, "weft-edge", "edge"));
    edge.until(|received| received.of(ResourceType::Secret, "ssl/shop").map(drop)).await;
    edge.until(|received| received.of(ResourceType::Listener, "0.0.0.0_9443").map(drop)).await;
    edge.leave().await;
    running.control_plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_of_a_workload_s_namespace_is_sent_no_keys_and_serves_http() {
    let running = Running::start().await;
    upload_certificate(&running).await;
    let edge = node("router~10.0.0.9~edge.demo~demo.svc", "10.0.0.9", &json!({}));
    let edge = TestNode::connect(edge, transport(&running, "demo", "greeter"));
    edge.until(|received| received.of(ResourceType::Listener, "0.0.0.0_9080").map(drop)).await;
    let keys = |received: &super::support::Received| {
        received
            .resources
            .keys()
            .filter(|(kind, name)| *kind == ResourceType::Secret || name == "0.0.0.0_9443")
            .count()
    };
    assert_eq!(edge.until(|received| Some(keys(received))).await, 0);
    edge.leave().await;
    running.control_plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_who_it_says_is_refused() {
    let running = Running::start().await;
    let right = sidecar("right", "10.0.0.1", &json!({"app": "greeter"}));
    let wrong = sidecar("wrong", "10.0.0.2", &json!({"app": "greeter"}));
    let wrong = TestNode::connect(wrong, transport(&running, "elsewhere", "greeter"));
    let right = TestNode::connect(right, transport(&running, "demo", "greeter"));
    right.until(|received| received.of(ResourceType::Listener, "virtualInbound").map(drop)).await;
    let workloads = running.get("/weft/admin/workloads").await;
    assert_eq!(workloads["total"], 1, "{workloads}");
    wrong.leave().await;
    right.leave().await;
    running.control_plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_wants_its_key() {
    let running = Running::start().await;
    let answer = running.call("GET", "/apisix/admin/routes?api_key=wrong", None).await;
    assert_eq!(answer.0, 401);
    running.control_plane.shutdown().await;
}

fn of_namespace(
    mut node: weft_xds_client::Node,
    namespace: &str,
    account: &str,
) -> weft_xds_client::Node {
    let metadata = json!({
        "NAMESPACE": namespace,
        "SERVICE_ACCOUNT": account,
        "INSTANCE_IPS": "10.0.0.9",
    });
    node.metadata = metadata.as_object().map(weft_xds_proto::json_to_struct);
    node
}
