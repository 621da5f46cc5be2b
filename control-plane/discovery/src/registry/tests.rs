use serde_json::{Value, json};
use weft_control_model::{WorkloadAddress, WorkloadPort};

use super::*;

const GRACE: Duration = Duration::from_secs(5);

fn workload(name: &str, address: [u8; 4], labels: &[(&str, &str)]) -> Workload {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Workload {
        id: format!("sidecar~{name}"),
        namespace: "demo".to_owned(),
        service_account: "greeter".to_owned(),
        labels: labels.collect(),
        addresses: vec![WorkloadAddress(address.into())],
        ports: vec![WorkloadPort { port: 80, target_port: 8080, protocol: "http".to_owned() }],
        role: Role::Sidecar,
        connected_since: 1,
        version: String::new(),
    }
}

fn greeter(version: &str, address: [u8; 4]) -> Workload {
    workload(version, address, &[("app", "greeter"), ("version", version)])
}

fn service(name: &str, args: &Value) -> Discovery {
    Discovery {
        registry: "mesh".to_owned(),
        service_name: name.to_owned(),
        args: args.as_object().cloned().unwrap_or_default(),
    }
}

fn found(registry: &MeshRegistry, name: &str, args: &Value) -> Endpoints {
    registry.endpoints(&service(name, args), Scheme::Http).expect("a service")
}

#[tokio::test]
async fn workloads_are_found_by_name_namespace_and_labels() {
    let registry = MeshRegistry::new(GRACE);
    registry.connected(greeter("v1", [10, 0, 0, 1]));
    registry.connected(greeter("v2", [10, 0, 0, 2]));
    registry.connected(workload("other", [10, 0, 0, 3], &[("app", "other")]));
    assert_eq!(found(&registry, "demo/greeter", &json!({})).len(), 2);
    let second = found(&registry, "demo/greeter:80", &json!({"labels": {"version": "v2"}}));
    assert_eq!((second[0].address, second[0].port), ([10, 0, 0, 2].into(), 8080));
    assert!(found(&registry, "greeter", &json!({})).is_empty());
    assert_eq!(found(&registry, "demo/greeter:9000", &json!({}))[0].port, 9000);
}

#[tokio::test]
async fn what_did_not_change_keeps_its_pointer() {
    let registry = MeshRegistry::new(GRACE);
    registry.connected(greeter("v1", [10, 0, 0, 1]));
    let first = json!({"labels": {"version": "v1"}});
    let second = json!({"labels": {"version": "v2"}});
    let before =
        (found(&registry, "demo/greeter", &first), found(&registry, "demo/greeter", &second));
    registry.connected(greeter("v2", [10, 0, 0, 2]));
    assert!(Arc::ptr_eq(&before.0, &found(&registry, "demo/greeter", &first)));
    assert_eq!(found(&registry, "demo/greeter", &second).len(), 1);
    assert!(before.1.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_workload_stays_for_a_while_after_it_left() {
    let registry = MeshRegistry::new(GRACE);
    registry.connected(greeter("v1", [10, 0, 0, 1]));
    registry.disconnected("sidecar~v1");
    tokio::time::advance(GRACE / 2).await;
    assert!(registry.expire().is_some());
    registry.connected(greeter("v1", [10, 0, 0, 1]));
    tokio::time::advance(GRACE * 2).await;
    assert!(registry.expire().is_none());
    assert_eq!(registry.workloads().len(), 1);
    registry.disconnected("sidecar~v1");
    tokio::time::advance(GRACE).await;
    assert!(registry.expire().is_none());
    assert!(registry.workloads().is_empty());
    assert!(found(&registry, "demo/greeter", &json!({})).is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_streams_of_a_node_are_two_reasons_to_stay() {
    let registry = MeshRegistry::new(GRACE);
    registry.connected(greeter("v1", [10, 0, 0, 1]));
    registry.connected(greeter("v1", [10, 0, 0, 1]));
    registry.disconnected("sidecar~v1");
    assert!(registry.expire().is_none());
}

#[tokio::test(start_paused = true)]
async fn restored_workloads_have_their_time_to_connect() {
    let registry = MeshRegistry::new(GRACE);
    registry.restore(vec![greeter("v1", [10, 0, 0, 1])], GRACE * 6);
    tokio::time::advance(GRACE * 5).await;
    registry.expire();
    assert_eq!(found(&registry, "demo/greeter", &json!({})).len(), 1);
    tokio::time::advance(GRACE).await;
    registry.expire();
    assert!(found(&registry, "demo/greeter", &json!({})).is_empty());
}

#[tokio::test]
async fn wrong_questions_are_told() {
    let registry = MeshRegistry::new(GRACE);
    let error = |service: &Discovery| {
        registry.endpoints(service, Scheme::Http).expect_err("an error").to_string()
    };
    assert!(error(&service("a/b/c", &json!({}))).contains("service_name"));
    assert!(error(&service("a", &json!({"x": 1}))).contains("discovery_args.x"));
    assert!(error(&service("a", &json!({"labels": 1}))).contains("discovery_args.labels"));
    let nacos = Discovery { registry: "nacos".to_owned(), ..service("a", &json!({})) };
    assert!(error(&nacos).contains("nacos"));
}
