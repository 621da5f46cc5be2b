use std::sync::Arc;

use serde_json::json;

use super::*;

#[test]
fn fields_are_istio_s() {
    let policy = AuthorizationPolicy::from_json(&json!({
        "namespace": "shop",
        "selector": {"matchLabels": {"app": "web"}},
        "action": "DENY",
        "rules": [{
            "from": [{"source": {"notNamespaces": ["shop"], "ipBlocks": ["10.0.0.0/8", "fd00::1"]}}],
            "to": [{"operation": {"methods": ["GET"], "paths": ["/admin*"], "ports": ["8080"]}}],
            "when": [{"key": "request.headers[x-user]", "values": ["*"]}],
        }],
    }))
    .expect("a policy");
    assert_eq!(policy.action, AuthorizationAction::Deny);
    assert_eq!(policy.rules[0].from[0].source.not_namespaces, ["shop"]);
    let bare = AuthorizationPolicy::from_json(&json!({"namespace": "shop"})).expect("a policy");
    assert_eq!((bare.action, bare.rules.len()), (AuthorizationAction::Allow, 0));
}

#[test]
fn what_cannot_be_held_is_named() {
    let rule = |rule: Value| json!({"namespace": "n", "rules": [rule]});
    for (policy, field) in [
        (json!({"namespace": "n", "action": "CUSTOM", "provider": {"name": "x"}}), "action"),
        (rule(json!({"from": [{"source": {"ipBlocks": ["10.0.0.0/40"]}}]})), "rules[0].from[0]"),
        (rule(json!({"to": [{"operation": {"ports": ["0"]}}]})), "rules[0].to[0]"),
        (rule(json!({"to": [{"operation": {"paths": ["/a/{*}"]}}]})), "rules[0].to[0]"),
        (rule(json!({"when": [{"key": "source.ip", "values": ["x"]}]})), "rules[0].when[0]"),
        (rule(json!({"when": [{"key": "moon.phase", "values": ["x"]}]})), "rules[0].when[0]"),
        (rule(json!({"when": [{"key": "source.ip"}]})), "rules[0].when[0]"),
        (rule(json!({"from": [{"source": {"principal": []}}]})), "principal"),
    ] {
        let error = AuthorizationPolicy::from_json(&policy).expect_err("an error").to_string();
        assert!(error.contains(field), "{policy}: {error}");
    }
}

#[test]
fn a_workload_has_its_namespace_s_policies_and_the_mesh_s() {
    let item = |id: &str, namespace: &str, app: Option<&str>| {
        let labels = app.map(|app| ("app".to_owned(), app.to_owned()));
        let policy = json!({
            "namespace": namespace,
            "selector": {"matchLabels": labels.into_iter().collect::<Labels>()},
        });
        Item {
            id: id.parse().expect("an id"),
            value: Arc::new(AuthorizationPolicy::from_json(&policy).expect("a policy")),
            created: 1,
            modified: 1,
        }
    };
    let all = [
        item("a", "root", None),
        item("b", "root", Some("web")),
        item("c", "shop", Some("web")),
        item("d", "shop", Some("other")),
        item("e", "elsewhere", None),
    ];
    let labels = [("app".to_owned(), "web".to_owned())].into();
    let held = effective_authorization(&all, "root", "shop", &labels);
    let ids: Vec<_> = held.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
}
