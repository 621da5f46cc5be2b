use serde_json::json;

use super::*;

fn upstream(json: &Value) -> Upstream {
    Upstream::from_json(json).expect("an upstream")
}

#[test]
fn both_forms_of_nodes_are_one() {
    let map = upstream(&json!({"nodes": {"a.com:8080": 2, "b": 0, "[::1]:90": 1}}));
    let array = upstream(&json!({"nodes": [
        {"host": "[::1]", "port": 90, "weight": 1},
        {"host": "a.com", "port": 8080, "weight": 2},
        {"host": "b", "weight": 0},
    ]}));
    assert_eq!(map.targets, array.targets);
    assert_eq!(map.nodes()[0].host, "::1");
    assert_eq!(map.nodes()[2].port, None);
}

#[test]
fn defaults_are_apisix_s() {
    let plain = upstream(&json!({"nodes": {}}));
    assert_eq!(plain.algorithm, Algorithm::RoundRobin);
    assert_eq!((plain.scheme, plain.pass_host), (Scheme::Http, PassHost::Pass));
    assert_eq!((plain.retries, plain.retry_timeout, plain.timeout), (None, None, None));
    let pool = upstream(&json!({"nodes": [], "keepalive_pool": {}})).keepalive_pool;
    let pool = pool.expect("a pool");
    assert_eq!((pool.size, pool.idle_timeout.as_secs(), pool.requests), (320, 60, 1000));
}

#[test]
fn a_registry_names_the_nodes() {
    let json = json!({"service_name": "s", "discovery_type": "mesh", "discovery_args": {"a": 1}});
    let Targets::Discovery(discovery) = upstream(&json).targets else {
        panic!("no discovery");
    };
    assert_eq!((discovery.registry.as_str(), discovery.service_name.as_str()), ("mesh", "s"));
    assert_eq!(discovery.args["a"], 1);
}

#[test]
fn hashing_knows_its_five_sources() {
    for (hash_on, expected) in [
        ("vars", HashOn::Variable("k".into())),
        ("header", HashOn::Header("k".into())),
        ("cookie", HashOn::Cookie("k".into())),
        ("consumer", HashOn::Consumer),
        ("vars_combinations", HashOn::Combination("k".into())),
    ] {
        let json = json!({"nodes": {}, "type": "chash", "hash_on": hash_on, "key": "k"});
        assert_eq!(upstream(&json).algorithm, Algorithm::ConsistentHash(expected));
    }
}

#[test]
fn wrong_upstreams_are_refused_with_the_reason() {
    for (json, reason) in [
        (json!({}), "either nodes or service_name"),
        (json!({"nodes": {"a:65536": 1}}), "invalid port 65536"),
        (json!({"nodes": [{"host": "::1", "weight": 1}]}), "brackets"),
        (json!({"nodes": {}, "type": "chash"}), "missing key"),
        (json!({"nodes": {}, "pass_host": "rewrite"}), "upstream_host"),
        (json!({"nodes": {}, "timeout": {"connect": 0, "send": 1, "read": 1}}), "more than 0"),
    ] {
        let error = Upstream::from_json(&json).expect_err("a wrong upstream");
        assert!(error.to_string().contains(reason), "{json}: {error}");
    }
}
