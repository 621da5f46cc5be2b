use serde_json::{Value, json};

use crate::client::Server;

fn invalid(message: &str) -> String {
    format!("invalid configuration: {message}")
}

async fn refused(server: &Server, cases: Vec<(&str, Value, String)>) {
    for (path, body, error) in cases {
        let answer = server.put(path, &body).await.expect(400);
        assert_eq!(answer.error(), error, "{body}");
        assert!(answer.text.ends_with('\n'));
    }
}

/// A right route with these fields besides.
fn route_with(fields: &Value) -> Value {
    let mut route = json!({"uri": "/a", "upstream": {"nodes": {"a:1": 1}}});
    let all = route.as_object_mut().expect("an object");
    all.extend(fields.as_object().expect("an object").clone());
    route
}

#[tokio::test]
async fn routes_with_wrong_fields_are_refused_in_apisix_s_words() {
    let server = Server::start().await;
    let none = "object matches none of the required";
    for (field, value, message) in [
        (
            "methods",
            json!(["GET", "OOPS"]),
            "failed to validate item 2: matches none of the enum values",
        ),
        ("uri", json!(""), "string too short, expected at least 1, got 0"),
        ("uri", json!(1), "wrong type: expected string, got number"),
        (
            "host",
            json!("a b"),
            r#"failed to match pattern "^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$" with "a b""#,
        ),
        ("timeout", json!({"connect": 1, "send": 1}), "property \"read\" is required"),
        (
            "timeout",
            json!({"connect": 0, "send": 1, "read": 1}),
            "property \"connect\" validation failed: expected 0 to be greater than 0",
        ),
        ("status", json!(2), "matches none of the enum values"),
        ("service_id", json!("a b"), none),
        ("remote_addr", json!("1.1.1"), none),
    ] {
        let answer = server.put("/routes/1", &route_with(&json!({field: value}))).await.expect(400);
        let error = invalid(&format!("property \"{field}\" validation failed: {message}"));
        assert_eq!(answer.error(), error);
    }
}

#[tokio::test]
async fn routes_with_too_few_or_too_many_fields_are_refused_in_apisix_s_words() {
    let server = Server::start().await;
    let targets = ["plugins", "upstream", "upstream_id", "service_id"];
    let pairs = |uri: &str| targets.map(|target| format!("[\"{target}\",\"{uri}\"]")).join(" or ");
    let needed = format!(
        "object matches none of the required: {} or {} or [\"script\",\"uri\"] or [\"script\",\"uris\"]",
        pairs("uri"),
        pairs("uris"),
    );
    let one = "allOf 1 failed: value should match only one schema, but matches";
    let with = |fields: Value| route_with(&fields);
    let only = |field: &str| format!("only one of {field} or {field}s is allowed");
    let cases = vec![
        (json!({"uri": "/a"}), invalid(&needed)),
        (json!({"plugins": {}}), invalid(&format!("{one} none"))),
        (with(json!({"uris": ["/b"]})), invalid(&format!("{one} both schemas 1 and 2"))),
        (with(json!({"x": 1})), invalid("additional properties forbidden, found x")),
        (with(json!({"host": "a", "hosts": ["b"]})), only("host")),
        (with(json!({"remote_addr": "1.1.1.1", "remote_addrs": ["::1"]})), only("remote_addr")),
    ];
    refused(&server, cases.into_iter().map(|(body, error)| ("/routes/1", body, error)).collect())
        .await;
}

#[tokio::test]
async fn references_and_rules_of_routes_are_checked() {
    let server = Server::start().await;
    let fetch =
        |name: &str| format!("failed to fetch {name} info by {name} id [9], response code: 404");
    let vars = |error: &str| format!("failed to validate the 'vars' expression: {error}");
    let with_vars = |vars: Value| json!({"uri": "/a", "plugins": {}, "vars": vars});
    let lua = |field: &str, instead: &str| {
        format!("failed to load '{field}' string: Lua is not supported, use {instead}")
    };
    refused(
        &server,
        vec![
            ("/routes/1", json!({"uri": "/a", "upstream_id": 9}), fetch("upstream")),
            ("/routes/1", json!({"uri": "/a", "service_id": "9"}), fetch("service")),
            (
                "/routes/1",
                json!({"uri": "/a", "plugins": {}, "plugin_config_id": 9}),
                fetch("plugin config"),
            ),
            ("/services/1", json!({"upstream_id": 9}), fetch("upstream")),
            ("/routes/1", with_vars(json!([["a", "x", "b"]])), vars("invalid operator 'x'")),
            ("/routes/1", with_vars(json!([["a"]])), vars("invalid expression")),
            ("/routes/1", with_vars(json!(["OR", ["a", "b"]])), vars("rule too short")),
            ("/routes/1", with_vars(json!([["uri", "~~", "("]])), vars("invalid regex '('")),
            (
                "/routes/1",
                json!({"uri": "/a", "plugins": {}, "filter_func": "function() return true end"}),
                lua("filter_func", "`vars`"),
            ),
            ("/services/1", json!({"script": "return {}  "}), lua("script", "`plugins`")),
        ],
    )
    .await;
    server.put("/routes/1", &with_vars(json!([]))).await.expect(201);
    server.put("/routes/1", &with_vars(json!([["arg_a", "==", "1"]]))).await.expect(200);
}

#[tokio::test]
async fn wrong_upstreams_are_refused_in_apisix_s_words() {
    let server = Server::start().await;
    let chash = |fields: Value| {
        let mut upstream = json!({"nodes": {"a:1": 1}, "type": "chash"});
        let all = upstream.as_object_mut().expect("an object");
        all.extend(fields.as_object().expect("an object").clone());
        upstream
    };
    let one = "value should match only one schema, but matches";
    let cases = vec![
        (json!({}), invalid(&format!("{one} none"))),
        (
            json!({"nodes": {}, "service_name": "s", "discovery_type": "mesh"}),
            invalid(&format!("{one} both schemas 1 and 2")),
        ),
        (
            json!({"nodes": {"a:1": -1}}),
            invalid("property \"nodes\" validation failed: object matches none of the required"),
        ),
        (json!({"nodes": {"a:65536": 1}}), "invalid port 65536".into()),
        (
            json!({"nodes": [{"host": "::1", "port": 80, "weight": 1}]}),
            invalid("IPv6 address must be enclosed with '[' and ']'"),
        ),
        (
            json!({"nodes": {"a:1": 1}, "pass_host": "rewrite"}),
            "`upstream_host` can't be empty when `pass_host` is `rewrite`".into(),
        ),
        (chash(json!({})), "missing key".into()),
        (
            chash(json!({"hash_on": "header", "key": "a b"})),
            invalid("failed to match pattern \"^[a-zA-Z0-9-_]+$\" with \"a b\""),
        ),
        (
            json!({"nodes": {"a:1": 1}, "tls": {"client_cert_id": "9"}}),
            "failed to fetch ssl info by ssl id [9], response code: 404".into(),
        ),
        (
            json!({"nodes": {}, "checks": {}}),
            invalid(
                "property \"checks\" validation failed: \
                 object matches none of the required: [\"active\"] or [\"active\",\"passive\"]",
            ),
        ),
    ];
    let cases = cases.into_iter().map(|(body, error)| ("/upstreams/1", body, error)).collect();
    refused(&server, cases).await;
}

#[tokio::test]
async fn right_upstreams_of_every_form_are_stored() {
    let server = Server::start().await;
    for body in [
        json!({"nodes": {}}),
        json!({"nodes": []}),
        json!({"nodes": {"a": 1, "b:80": 0, "[::1]:80": 1}}),
        json!({"nodes": [{"host": "[::1]", "port": 80, "weight": 1, "priority": -1}]}),
        json!({"service_name": "web", "discovery_type": "mesh"}),
        json!({"nodes": {"a:1": 1}, "type": "chash", "hash_on": "consumer"}),
        json!({"nodes": {"a:1": 1}, "type": "chash", "key": "arg_id"}),
        json!({"nodes": {"a:1": 1}, "checks": {"active": {"http_path": "/status"}}}),
        json!({"nodes": {"a:1": 1}, "pass_host": "rewrite", "upstream_host": "b"}),
        json!({"nodes": {"a:1": 1}, "timeout": {"connect": 0.5, "send": 1, "read": 1}}),
    ] {
        let answer = server.put("/upstreams/1", &body).await;
        assert!(matches!(answer.status, 200 | 201), "{body}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted_unless_forced() {
    let server = Server::start().await;
    server.put("/upstreams/1", &json!({"nodes": {"a:1": 1}})).await.expect(201);
    server.put("/services/2", &json!({"upstream_id": 1})).await.expect(201);
    server.put("/routes/3", &json!({"uri": "/a", "service_id": "2"})).await.expect(201);
    let split = json!({"traffic-split": {"rules": [
        {"weighted_upstreams": [{"upstream_id": "1", "weight": 1}, {"weight": 1}]},
    ]}});
    let in_use = |by: &str| format!("can not delete this upstream, {by} is still using it now");
    let delete = async |path: &str| server.call("DELETE", path, "").await;
    let answer = delete("/services/2").await.expect(400);
    let error = "can not delete this service directly, route [3] is still using it now";
    assert_eq!(answer.error(), error);
    assert_eq!(delete("/upstreams/1").await.expect(400).error(), in_use("service [2]"));
    server.put("/routes/4", &json!({"uri": "/b", "plugins": split})).await.expect(201);
    assert_eq!(delete("/upstreams/1").await.expect(400).error(), in_use("plugin in route [4]"));
    server.put("/routes/4", &json!({"uri": "/b", "upstream_id": "1"})).await.expect(200);
    assert_eq!(delete("/upstreams/1").await.expect(400).error(), in_use("route [4]"));
    delete("/upstreams/1?force=true").await.expect(200);
    delete("/routes/3").await.expect(200);
    delete("/services/2").await.expect(200);
}

#[tokio::test]
async fn schemas_can_be_read_and_tried() {
    let server = Server::start().await;
    for name in ["route", "service", "upstream", "ssl"] {
        let schema = server.get(&format!("/schema/{name}")).await.expect(200).json();
        assert_eq!(schema["type"], "object");
    }
    let validate = async |path: &str, body: &str| {
        server.call("POST", &format!("/schema/validate/{path}"), body).await
    };
    let answer = validate("routes", r#"{"uri":"/a","upstream_id":"9"}"#).await.expect(200);
    assert_eq!(answer.text, "");
    let answer = validate("upstreams", r#"{"nodes":1}"#).await.expect(400);
    let error = "property \"nodes\" validation failed: object matches none of the required";
    assert_eq!(answer.error(), error);
}
