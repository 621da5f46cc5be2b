use serde_json::json;

use crate::client::Server;

#[tokio::test]
async fn the_running_mesh_can_be_read() {
    let server = Server::start().await;
    let answer = server.weft("GET", "/workloads", "").await.expect(200).json();
    assert_eq!(answer["total"], 1);
    assert_eq!(answer["list"][0]["key"], "/weft/workloads/sidecar~10.0.0.1~web.ns~ns");
    assert_eq!(answer["list"][0]["value"]["role"], "sidecar");
    let one = server.weft("GET", "/workloads/sidecar~10.0.0.1~web.ns~ns", "").await.expect(200);
    assert_eq!(one.json()["value"]["service_account"], "web");
    let answer = server.weft("GET", "/nodes", "").await.expect(200);
    assert_eq!(answer.json(), json!({"total": 0, "list": []}));
    let answer = server.weft("GET", "/services/web", "").await.expect(200).json();
    assert_eq!(answer["value"]["virtual_address"], "240.0.0.1");
    server.weft("GET", "/services/other", "").await.expect(404);
    server.weft("PUT", "/workloads", "{}").await.expect(404);
    server.weft("GET", "/routes", "").await.expect(404);
}

#[tokio::test]
async fn peer_authentications_have_the_same_envelope() {
    let server = Server::start().await;
    let policy = json!({
        "namespace": "ns",
        "selector": {"matchLabels": {"app": "web"}},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"80": {"mode": "DISABLE"}},
    });
    let path = "/peer_authentications/strict";
    let answer = server.weft("PUT", path, &policy.to_string()).await.expect(201).json();
    assert_eq!(answer["key"], "/weft/peer_authentications/strict");
    let patch = json!({"mtls": {"mode": "PERMISSIVE"}}).to_string();
    server.weft("PATCH", path, &patch).await.expect(200);
    let answer = server.weft("GET", "/peer_authentications", "").await.expect(200).json();
    assert_eq!(answer["list"][0]["value"]["mtls"]["mode"], "PERMISSIVE");
    for (body, error) in [
        (json!({}), "invalid configuration: property \"namespace\" is required"),
        (
            json!({"namespace": "ns", "mtls": {"mode": "strict"}}),
            "invalid configuration: property \"mtls\" validation failed: \
             property \"mode\" validation failed: matches none of the enum values",
        ),
        (
            json!({"namespace": "ns", "portLevelMtls": {"80": {"mode": "STRICT"}}}),
            "invalid configuration: portLevelMtls: needs a selector: ports belong to workloads",
        ),
    ] {
        let answer = server.weft("PUT", path, &body.to_string()).await.expect(400);
        assert_eq!(answer.error(), error);
    }
    server.weft("DELETE", path, "").await.expect(200);
}

#[tokio::test]
async fn the_mesh_s_settings_show_their_defaults() {
    let server = Server::start().await;
    let answer = server.weft("GET", "/mesh", "").await.expect(200).json();
    assert_eq!(answer["key"], "/weft/mesh/default");
    assert_eq!(answer["value"]["outbound_traffic_policy"], "ALLOW_ANY");
    let body = json!({"outbound_traffic_policy": "REGISTRY_ONLY"}).to_string();
    server.weft("PUT", "/mesh", &body).await.expect(201);
    let answer = server.weft("GET", "/mesh", "").await.expect(200).json();
    assert_eq!(answer["value"]["outbound_traffic_policy"], "REGISTRY_ONLY");
    assert_eq!(answer["value"]["trust_domain"], "cluster.local");
    for body in [json!({"trust_domain": "A b"}), json!({"trust_domian": "x"}), json!([])] {
        let answer = server.weft("PUT", "/mesh", &body.to_string()).await.expect(400);
        assert!(answer.error().starts_with("invalid configuration: "), "{answer:?}");
    }
}
