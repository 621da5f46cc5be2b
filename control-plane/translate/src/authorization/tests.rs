use std::sync::Arc;

use serde_json::{Value, json};
use weft_xds_proto::{Sensitive, any_to_json, pack};

use super::*;

fn item(id: &str, policy: &Value) -> Item<AuthorizationPolicy> {
    let value = Arc::new(AuthorizationPolicy::from_json(policy).expect("a policy"));
    Item { id: id.parse().expect("an id"), value, created: 1, modified: 1 }
}

fn shown(policies: &[Item<AuthorizationPolicy>], action: Action, reading: Reading) -> Value {
    match rules(policies.iter(), action, reading) {
        Some(rules) => any_to_json(&pack(&rules), Sensitive::Keep)["policies"].clone(),
        None => Value::Null,
    }
}

#[test]
fn a_rule_is_who_does_what_under_all_conditions() {
    let policy = item(
        "p",
        &json!({
            "namespace": "shop",
            "rules": [{
                "from": [
                    {"source": {"principals": ["cluster.local/ns/a/sa/b"], "notIpBlocks": ["10.0.0.1"]}},
                    {"source": {"serviceAccounts": ["web", "other/api"]}},
                ],
                "to": [{"operation": {"methods": ["GET"], "notPaths": ["/admin*"], "ports": ["8080"]}}],
                "when": [{"key": "request.headers[x-user]", "values": ["*"]}],
            }],
        }),
    );
    let found = shown(&[policy], Action::Allow, Reading::Requests);
    let exact = |text: &str| json!({"authenticated": {"principal_name": {"exact": text}}});
    let suffix = |text: &str| json!({"authenticated": {"principal_name": {"suffix": text}}});
    let expected = json!({"ns[shop]-policy[p]-rule[0]": {
        "principals": [{"and_ids": {"ids": [
            {"or_ids": {"ids": [
                {"and_ids": {"ids": [
                    exact("spiffe://cluster.local/ns/a/sa/b"),
                    {"not_id": {"direct_remote_ip": {"address_prefix": "10.0.0.1", "prefix_len": 32}}},
                ]}},
                {"or_ids": {"ids": [suffix("/ns/shop/sa/web"), suffix("/ns/other/sa/api")]}},
            ]}},
            {"header": {"name": "x-user", "present_match": true}},
        ]}}],
        "permissions": [{"and_rules": {"rules": [
            {"header": {"name": ":method", "string_match": {"exact": "GET"}}},
            {"not_rule": {"url_path": {"path": {"prefix": "/admin"}}}},
            {"destination_port": 8080},
        ]}}],
    }});
    assert_eq!(found, expected, "{found:#}");
}

#[test]
fn on_connections_rules_of_requests_allow_nothing_and_deny_what_is_left() {
    let policy = |action: &str| {
        item(
            "p",
            &json!({
                "namespace": "n", "action": action,
                "rules": [{"to": [{"operation": {"methods": ["GET"], "ports": ["9000"]}}]}],
            }),
        )
    };
    let found = shown(&[policy("ALLOW")], Action::Allow, Reading::Connections);
    assert_eq!(found, Value::Null, "a filter without policies, which allows nothing");
    assert!(rules([policy("ALLOW")].iter(), Action::Allow, Reading::Connections).is_some());
    let found = shown(&[policy("DENY")], Action::Deny, Reading::Connections);
    let permissions = &found["ns[n]-policy[p]-rule[0]"]["permissions"];
    assert_eq!(*permissions, json!([{"destination_port": 9000}]));
}

#[test]
fn allowing_nothing_is_a_filter_and_denying_nothing_is_none() {
    let policy = |action: &str| item("p", &json!({"namespace": "n", "action": action}));
    for (action, envoy, filters) in [
        ("ALLOW", Action::Allow, true),
        ("DENY", Action::Deny, false),
        ("AUDIT", Action::Log, false),
    ] {
        let policy = policy(action);
        let found = rules([&policy].into_iter(), envoy, Reading::Requests);
        assert_eq!(found.is_some(), filters, "{action}");
        let guards = Guards::of([&policy].into_iter());
        assert_eq!((guards.http.len(), guards.tcp.len()), (filters.into(), filters.into()));
    }
    assert!(Guards::of(std::iter::empty()).http.is_empty());
}

#[test]
fn namespaces_are_whole_names_and_tokens_nobody_s() {
    let rule = |source: Value| {
        let rules = json!([{"from": [{"source": source}]}]);
        let policy = item("p", &json!({"namespace": "n", "rules": rules}));
        shown(&[policy], Action::Allow, Reading::Requests)["ns[n]-policy[p]-rule[0]"]["principals"]
            [0]
        .clone()
    };
    let name = |matcher: Value| json!({"authenticated": {"principal_name": matcher}});
    assert_eq!(rule(json!({"namespaces": ["shop"]})), name(json!({"contains": "/ns/shop/"})));
    let pattern = json!({"safe_regex": {"regex": ".*/ns/shop\\-[^/]*/.*"}});
    assert_eq!(rule(json!({"namespaces": ["shop-*"]})), name(pattern));
    let nobody = json!({"not_id": {"any": true}});
    assert_eq!(rule(json!({"requestPrincipals": ["*"]})), nobody);
    assert_eq!(rule(json!({"notRequestPrincipals": ["*"]})), json!({"not_id": nobody}));
    assert_eq!(rule(json!({"principals": ["*"]})), name(json!({"safe_regex": {"regex": ".+"}})));
}
