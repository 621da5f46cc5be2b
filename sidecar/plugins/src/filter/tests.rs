use serde_json::{Value, json};

use crate::Chain;
use crate::testing::Case;

/// A header that tells of its configuration.
fn mark(text: &str) -> Value {
    json!({"headers": {"add": [format!("x-mark: {text}")]}})
}

#[test]
fn a_consumer_wins_over_its_group_and_that_over_the_route() {
    let consumers = json!({
        "consumers": [
            {"username": "plain", "plugins": {"key-auth": {"key": "k0"}}},
            {"username": "member", "group_id": "g", "plugins": {"key-auth": {"key": "k1"}}},
            {"username": "own", "group_id": "g", "plugins": {
                "key-auth": {"key": "k2"}, "response-rewrite": mark("consumer"),
            }},
        ],
        "groups": {"g": {"response-rewrite": mark("group")}},
    });
    let chain = json!({"plugins": {"key-auth": {}, "response-rewrite": mark("route")}});
    let case = Case::chain(chain).consumers(consumers);
    for (key, expected) in [("k0", "route"), ("k1", "group"), ("k2", "consumer")] {
        let mut outcome = case.again().get("/").header("apikey", key).run();
        outcome.passes();
        assert_eq!(outcome.respond(200).all("x-mark"), [expected]);
    }
}

#[test]
fn plugins_that_a_consumer_brings_run_in_both_phases() {
    let consumers = json!({"consumers": [{"username": "jack", "plugins": {
        "key-auth": {"key": "k"},
        "uri-blocker": {"block_rules": ["^/closed"]},
        "ip-restriction": {"blacklist": ["192.0.2.9"]},
        "request-id": {},
    }}]});
    let case = Case::chain(json!({"plugins": {"key-auth": {}}})).consumers(consumers);
    let mut outcome = case.again().get("/").header("apikey", "k").run();
    outcome.passes();
    assert!(outcome.respond(200).header("x-request-id").is_some());
    case.again().get("/closed").header("apikey", "k").run().replies(403);
    case.again().from([192, 0, 2, 9]).get("/").header("apikey", "k").run().replies(403);
}

#[test]
fn global_rules_run_beside_the_route_and_also_without_one() {
    let global = json!([
        {"owner": "/apisix/global_rules/1", "plugins": {"response-rewrite": mark("global")}},
        {"owner": "/apisix/global_rules/2", "plugins": {"uri-blocker": {"block_rules": ["^/no"]}}},
    ]);
    let with_route = json!({"global": global, "plugins": {"response-rewrite": mark("route")}});
    let case = Case::chain(with_route);
    let mut outcome = case.again().get("/").run();
    assert_eq!(outcome.respond(200).all("x-mark"), ["global", "route"]);
    // A refusal is seen by those that come later, too.
    let reply = case.again().get("/no").run().replies(403);
    assert_eq!(reply.all("x-mark"), ["global", "route"]);
    let mut outcome = Case::chain(json!({"global": global})).get("/").run();
    assert_eq!(outcome.respond(404).all("x-mark"), ["global"]);
}

#[test]
fn meta_disables_filters_reorders_and_replaces_errors() {
    let run = |meta: Value, uri: &str| {
        let settings = json!({"_meta": meta, "block_rules": ["a"], "rejected_msg": "blocked"});
        Case::new("uri-blocker", settings).get(uri).run()
    };
    run(json!({"disable": true}), "/a").passes();
    let filter = json!({"filter": [["arg_x", "==", "1"]]});
    run(filter.clone(), "/a").passes();
    run(filter, "/a?x=1").replies(403);
    let reply = run(json!({"error_response": {"code": 7}}), "/a").replies(403);
    assert_eq!(reply.text(), "{\"code\":7}\n");
    let reply = run(json!({"error_response": "plain"}), "/a").replies(403);
    assert_eq!(reply.text(), "plain");
    let chain = |meta: Value| {
        let limit = json!({"_meta": meta, "count": 1, "time_window": 60, "rejected_code": 429});
        let refuse = json!({"blacklist": ["192.0.2.1"]});
        Case::chain(json!({"plugins": {"limit-count": limit, "ip-restriction": refuse}}))
    };
    let case = chain(json!({}));
    for _ in 0..2 {
        case.again().get("/").run().replies(403);
    }
    let case = chain(json!({"priority": 5000}));
    case.again().get("/").run().replies(403);
    case.again().get("/").run().replies(429);
}

#[test]
fn wrong_chains_are_refused_by_the_plugin_s_name() {
    for (plugins, error) in [
        (json!({"no-such": {}}), "plugins.no-such: unknown plugin [no-such]"),
        (json!({"uri-blocker": {}}), "plugins.uri-blocker: property \"block_rules\" is required"),
        (
            json!({"key-auth": {"_meta": {"x": 1}}}),
            "plugins.key-auth: property \"_meta\" validation failed: \
             additional properties forbidden, found x",
        ),
        (
            json!({"key-auth": {"_meta": {"pre_function": "return"}}}),
            "plugins.key-auth: _meta.pre_function: Lua is not supported",
        ),
    ] {
        let error_of = Chain::compile(&json!({"plugins": plugins})).expect_err("a wrong chain");
        assert_eq!(error_of.to_string(), error);
    }
}

#[test]
fn counters_outlive_changes_elsewhere() {
    let chain = |more: Value| {
        let mut plugins = json!({"limit-count": {"count": 1, "time_window": 60}});
        plugins
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().cloned().unwrap_or_default());
        Case::chain(json!({"owner": "/apisix/routes/outlive", "plugins": plugins}))
    };
    let before = chain(json!({}));
    before.again().get("/").run().passes();
    let after = chain(json!({"request-id": {}}));
    after.again().get("/").run().replies(503);
}
