use serde_json::json;

use super::support::World;

#[test]
fn what_cannot_be_served_is_told_and_left_out() {
    let mut world = World::new();
    world
        .put(
            "upstreams/1",
            json!({"nodes": {"10.0.0.1:80": 1}, "checks": {"active": {"http_req_body": "?"}}}),
        )
        .put("routes/a", json!({"uri": "/a", "upstream_id": 1, "remote_addr": "10.0.0.0/8"}))
        .put("routes/b", json!({"uri": "/b", "upstream_id": 9}))
        .put("routes/c", json!({"uri": "/c", "upstream_id": 1, "plugins": {"limit-count": {}}}))
        .put("routes/d", json!({"uri": "/d", "upstream_id": 1}))
        .put(
            "services/e",
            json!({"hosts": ["e"], "upstream": {
                "scheme": "tcp", "nodes": {"10.0.0.1:80": 1},
            }}),
        )
        .put(
            "routes/f",
            json!({"uri": "/f", "upstream": {
                "discovery_type": "nacos", "service_name": "x",
            }}),
        );
    let problems = world.problems();
    let expected = [
        ("/apisix/routes/a", "remote_addrs"),
        ("/apisix/routes/b", "upstream_id"),
        ("/apisix/routes/c", "plugins.limit-count"),
        ("/apisix/routes/f", "discovery_type"),
        ("/apisix/services/e", "labels"),
        ("/apisix/upstreams/1", "checks.active.http_req_body"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for ((key, field), problem) in expected.iter().zip(&problems) {
        assert!(problem.starts_with(&format!("{key} {field}: ")), "{problem}");
    }
}

#[test]
fn a_problem_goes_with_its_cause() {
    let mut world = World::new();
    world.put("routes/b", json!({"uri": "/b", "upstream_id": 9}));
    assert_eq!(world.problems().len(), 1);
    world.put("upstreams/9", json!({"nodes": {"10.0.0.1:80": 1}}));
    assert!(world.problems().is_empty());
}
