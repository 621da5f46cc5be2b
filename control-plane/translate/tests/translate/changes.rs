use std::sync::Arc;

use weft_xds_ads::{NodeResources, ResourceType};

use super::golden::{canary, route};

/// The types of which a node would be sent something.
fn changed(before: &NodeResources, after: &NodeResources) -> Vec<ResourceType> {
    let kinds = after.iter().filter(|(kind, set)| !Arc::ptr_eq(before.of(*kind), set));
    kinds.map(|(kind, _)| kind).collect()
}

#[test]
fn other_weights_change_routes_alone() {
    let mut world = canary();
    let before = (world.sidecar(&[(8080, "http")]), world.edge());
    world.put("routes/greeter", route(50));
    let after = (world.sidecar(&[(8080, "http")]), world.edge());
    assert_eq!(changed(&before.0, &after.0), [ResourceType::Route]);
    assert_eq!(changed(&before.1, &after.1), [ResourceType::Route]);
}

#[test]
fn a_new_endpoint_changes_its_assignment_alone() {
    let mut world = canary();
    let before = world.sidecar(&[(8080, "http")]);
    world.runs("demo/greeter:8080", "v2", &[21, 22], 8080);
    let after = world.sidecar(&[(8080, "http")]);
    assert_eq!(changed(&before, &after), [ResourceType::Endpoint]);
    let (old, new) = (before.of(ResourceType::Endpoint), after.of(ResourceType::Endpoint));
    let same = |name: &str| Arc::ptr_eq(&old.resources[name], &new.resources[name]);
    assert!(same("upstream/greeter-v1") && !same("upstream/greeter-v2"));
}

#[test]
fn nothing_changes_without_a_change() {
    let mut world = canary();
    let before = world.sidecar(&[(8080, "http")]);
    assert!(changed(&before, &world.sidecar(&[(8080, "http")])).is_empty());
    // The same resource written again has a new revision and the same content.
    world.put("routes/greeter", route(10));
    assert!(changed(&before, &world.sidecar(&[(8080, "http")])).is_empty());
}

#[test]
fn another_control_plane_gives_the_same_versions() {
    let (one, other) = (canary().sidecar(&[(8080, "http")]), canary().sidecar(&[(8080, "http")]));
    for (kind, set) in one.iter() {
        assert_eq!(set.version, other.of(kind).version, "{kind}");
    }
}

#[test]
fn a_policy_changes_who_it_is_for_and_how_others_call_them() {
    let mut world = canary();
    let before = world.sidecar(&[(8080, "http")]);
    world.put(
        "/weft/peer_authentications/p",
        serde_json::json!({"namespace": "demo", "mtls": {"mode": "DISABLE"}}),
    );
    let after = world.sidecar(&[(8080, "http")]);
    assert_eq!(changed(&before, &after), [ResourceType::Endpoint, ResourceType::Listener]);
}

#[test]
fn what_is_served_in_one_place_alone_does_not_reach_the_other() {
    let mut world = canary();
    for (scope, at_edge) in [("edge", true), ("mesh", false)] {
        let before = (world.sidecar(&[(8080, "http")]), world.edge());
        world.put(
            &format!("routes/{scope}"),
            serde_json::json!({
                "uri": "/",
                "hosts": [format!("only.{scope}")],
                "labels": {"weft.dev/scope": scope},
                "upstream": {"type": "roundrobin", "nodes": {"192.0.2.1:80": 1}},
            }),
        );
        let after = (world.sidecar(&[(8080, "http")]), world.edge());
        let changes = (changed(&before.0, &after.0), changed(&before.1, &after.1));
        let (reached, spared) =
            if at_edge { (changes.1, changes.0) } else { (changes.0, changes.1) };
        assert!(reached.contains(&ResourceType::Cluster), "{scope}: {reached:?}");
        assert!(spared.is_empty(), "{scope}: {spared:?}");
    }
}

/// The version of what is had by name.
fn version(sent: &NodeResources, kind: ResourceType, name: &str) -> String {
    sent.of(kind).named(name).expect("it is there").version.clone()
}

#[test]
fn a_change_concerns_the_virtual_hosts_that_it_is_about() {
    let mut world = canary();
    let other = |status: &str| {
        serde_json::json!({
            "uri": "/", "hosts": ["other"], "desc": status,
            "upstream": {"nodes": {"192.0.2.1:80": 1}},
        })
    };
    world.put("routes/other", other("one"));
    let before = world.lean(&[(8080, "http")], &[]);
    world.put("routes/greeter", route(50));
    let after = world.lean(&[(8080, "http")], &[]);
    let changed = changed(&before, &after);
    assert_eq!(changed, [ResourceType::VirtualHost], "what is announced stays as it is");
    let differs = |host: &str| {
        let kind = ResourceType::VirtualHost;
        version(&before, kind, host) != version(&after, kind, host)
    };
    assert!(differs("80/greeter") && differs("80/greeter.example"));
    assert!(!differs("80/other") && !differs("80/elsewhere"));
}

#[test]
fn a_new_service_is_announced_to_nobody_and_had_by_name() {
    let mut world = canary();
    let before = world.lean(&[(8080, "http")], &[]);
    world.put(
        "routes/new",
        serde_json::json!({"uri": "/", "host": "new", "upstream": {"nodes": {"192.0.2.1:80": 1}}}),
    );
    let after = world.lean(&[(8080, "http")], &[]);
    let kind = ResourceType::Cluster;
    assert!(Arc::ptr_eq(before.of(ResourceType::Listener), after.of(ResourceType::Listener)));
    assert_eq!(before.of(kind).resources.len(), after.of(kind).resources.len());
    assert!(before.of(kind).named("route/new").is_none());
    assert!(after.of(kind).named("route/new").is_some());
}
