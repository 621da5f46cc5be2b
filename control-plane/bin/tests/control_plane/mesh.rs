use serde_json::{Value, json};
use weft_xds_client::ResourceType;

use super::support::{Received, Running, TestNode, node, sidecar};

fn greeter(running: &Running, version: &str, address: &str) -> TestNode {
    let labels = json!({"app": "greeter", "version": version});
    running.node(sidecar(&format!("greeter-{version}"), address, &labels))
}

fn route(percent: u32) -> Value {
    json!({
        "uri": "/*",
        "hosts": ["greeter"],
        "upstream_id": "v1",
        "plugins": {"traffic-split": {"rules": [{"weighted_upstreams": [
            {"weight": 100 - percent},
            {"upstream_id": "v2", "weight": percent},
        ]}]}},
    })
}

/// Two upstreams and a route over both.
async fn publish(running: &Running) {
    for version in ["v1", "v2"] {
        let upstream = json!({
            "discovery_type": "mesh",
            "service_name": "demo/greeter:8080",
            "discovery_args": {"labels": {"version": version}},
        });
        running.put(&format!("/apisix/admin/upstreams/{version}"), upstream).await;
    }
    running.put("/apisix/admin/routes/greeter", route(10)).await;
}

/// The weights of the route's clusters, as a node knows them.
async fn weights(node: &TestNode, wanted: &[u64]) {
    node.until(|received| {
        let table = received.of(ResourceType::Route, "80")?;
        let action = table.pointer("/virtual_hosts/0/routes/0/route/weighted_clusters/clusters")?;
        let clusters = action.as_array()?.iter();
        let weights: Vec<_> = clusters.filter_map(|cluster| cluster["weight"].as_u64()).collect();
        (weights == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_reaches_every_node_and_a_new_share_changes_routes_alone() {
    let running = Running::start().await;
    let first = greeter(&running, "v1", "10.0.0.1");
    let second = greeter(&running, "v2", "10.0.0.2");
    publish(&running).await;
    for node in [&first, &second] {
        weights(node, &[90, 10]).await;
        node.until(|received| {
            let both = received.endpoints("upstream/v1") == ["10.0.0.1:8080"]
                && received.endpoints("upstream/v2") == ["10.0.0.2:8080"];
            both.then_some(())
        })
        .await;
    }
    running.wait_for("/weft/admin/nodes", all_accepted).await;
    let before = first.updates();
    running.put("/apisix/admin/routes/greeter", route(50)).await;
    weights(&first, &[50, 50]).await;
    weights(&second, &[50, 50]).await;
    let after = first.updates();
    let more: Vec<_> = after.iter().filter(|(kind, n)| before.get(kind) != Some(n)).collect();
    assert!(matches!(more.as_slice(), [(ResourceType::Route, _)]), "{before:?} {after:?}");
    let services = running.get("/weft/admin/services").await;
    assert_eq!(services["list"][0]["value"]["workloads"], 2);
    first.leave().await;
    second.leave().await;
    running.control_plane.shutdown().await;
}

/// Whether every node accepted the last of what it was sent.
fn all_accepted(nodes: &Value) -> bool {
    let types = nodes["list"].as_array().into_iter().flatten().flat_map(|node| {
        node["value"]["types"].as_object().into_iter().flatten().map(|(_, status)| status)
    });
    let mut types = types.peekable();
    types.peek().is_some() && types.all(|status| status["sent"] == status["accepted"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_leaves_is_no_endpoint_any_more() {
    let running = Running::start().await;
    publish(&running).await;
    let first = greeter(&running, "v1", "10.0.0.1");
    let second = greeter(&running, "v2", "10.0.0.2");
    let reached = |address: &'static str| {
        first.until(move |received| {
            let found = received.endpoints("upstream/v2");
            (found == [address] || (address.is_empty() && found.is_empty())).then_some(())
        })
    };
    reached("10.0.0.2:8080").await;
    second.leave().await;
    reached("").await;
    first.leave().await;
    running.control_plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_control_plane_knows_what_it_knew() {
    let running = Running::start().await;
    publish(&running).await;
    let first = greeter(&running, "v1", "10.0.0.1");
    first.until(|received| received.of(ResourceType::Route, "80").map(drop)).await;
    let path = "/weft/admin/services";
    let known = |services: &Value| services["list"][0]["value"]["workloads"] == 1;
    let services = running.wait_for(path, known).await;
    // Streams end first when a control plane ends: the workload must be on record before.
    let running = running.restart().await;
    assert_eq!(running.wait_for(path, known).await, services);
    first.leave().await;
    running.control_plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_resource_stands_with_its_node() {
    let running = Running::start().await;
    publish(&running).await;
    let first = greeter(&running, "v1", "10.0.0.1");
    first.until(|received| received.of(ResourceType::Route, "80").map(drop)).await;
    first.refuse("upstream/odd");
    let odd = json!({"nodes": {"10.9.9.9:80": 1}});
    running.put("/apisix/admin/upstreams/odd", odd).await;
    let route = json!({"uri": "/odd", "host": "greeter", "upstream_id": "odd"});
    running.put("/apisix/admin/routes/odd", route).await;
    let reason = "/list/0/value/types/cluster/rejected/reason";
    let nodes = running
        .wait_for("/weft/admin/nodes", |nodes| nodes.pointer(reason).is_some_and(Value::is_string))
        .await;
    let text = nodes.pointer(reason).and_then(Value::as_str).unwrap_or_default();
    assert!(text.contains("upstream/odd") && text.contains("not to my taste"), "{text}");
    first.leave().await;
    running.control_plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_cannot_do_is_refused_at_once() {
    let running = Running::start().await;
    let upstream = json!({"nodes": {"10.0.0.1:80": 1}});
    let route = json!({"uri": "/", "remote_addr": "10.0.0.1", "upstream": upstream});
    let (status, answer) = running.call("PUT", "/apisix/admin/routes/1", Some(route)).await;
    assert_eq!(status, 400);
    assert!(answer["error_msg"].as_str().is_some_and(|text| text.contains("remote_addrs")));
    running.control_plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_without_proof_is_sent_routes_and_no_keys() {
    let running = Running::start().await;
    publish(&running).await;
    let labels = json!({"app": "edge"});
    let edge = running.node(node("router~10.0.0.9~edge.demo~demo.svc", "10.0.0.9", &labels));
    edge.until(|received| received.of(ResourceType::Listener, "0.0.0.0_9080").map(drop)).await;
    edge.until(|received| received.of(ResourceType::Route, "edge.http").map(drop)).await;
    edge.leave().await;
    running.control_plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_may_follow_its_service_at_once() {
    let running = Running::start().await;
    for number in 0..20 {
        let service = json!({"upstream": {"nodes": {"10.0.0.1:80": 1}}});
        running.put(&format!("/apisix/admin/services/{number}"), service).await;
        let route = json!({"uri": format!("/{number}"), "service_id": number.to_string()});
        running.put(&format!("/apisix/admin/routes/{number}"), route).await;
    }
    running.control_plane.shutdown().await;
}

/// A node of Weft's own data plane, which asks for what it is to call.
fn asking(running: &Running, name: &str, address: &str) -> TestNode {
    let mut node = sidecar(name, address, &json!({"app": name}));
    "weft-sidecar".clone_into(&mut node.user_agent_name);
    running.node(node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_the_nodes_that_asked_for_the_host() {
    let running = Running::start().await;
    let server = greeter(&running, "v1", "10.0.0.1");
    publish(&running).await;
    let (caller, idle) =
        (asking(&running, "caller", "10.0.0.8"), asking(&running, "idle", "10.0.0.9"));
    caller.ask(ResourceType::VirtualHost, "80/greeter");
    caller.ask(ResourceType::Cluster, "upstream/v1");
    idle.ask(ResourceType::VirtualHost, "80/elsewhere.test");
    caller
        .until(|received| {
            received.of(ResourceType::VirtualHost, "80/greeter")?;
            let there = received.endpoints("upstream/v1") == ["10.0.0.1:8080"];
            (there && received.of(ResourceType::Cluster, "upstream/v2").is_none()).then_some(())
        })
        .await;
    let host = |received: &Received, name: &str| {
        received.of(ResourceType::VirtualHost, name)?["routes"][0].as_object().cloned()
    };
    idle.until(|received| host(received, "80/elsewhere.test")).await;
    running.wait_for("/weft/admin/nodes", all_accepted).await;
    let before = (caller.updates(), idle.updates());
    running.put("/apisix/admin/routes/greeter", route(50)).await;
    caller
        .until(|received| {
            let host = received.of(ResourceType::VirtualHost, "80/greeter")?;
            let weights = host.pointer("/routes/0/route/weighted_clusters/clusters/1/weight")?;
            (weights == 50).then_some(())
        })
        .await;
    running.wait_for("/weft/admin/nodes", all_accepted).await;
    let after = (caller.updates(), idle.updates());
    assert_eq!(before.1, after.1, "the idle node was sent something");
    let more: Vec<_> = after.0.iter().filter(|(kind, n)| before.0.get(kind) != Some(n)).collect();
    assert!(matches!(more.as_slice(), [(ResourceType::VirtualHost, _)]), "{more:?}");
    for node in [server, caller, idle] {
        node.leave().await;
    }
    running.control_plane.shutdown().await;
}
