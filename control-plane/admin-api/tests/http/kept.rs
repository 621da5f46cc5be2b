use serde_json::{Value, json};

use crate::client::Server;

/// One right body for each kind, with its path.
fn right() -> Vec<(&'static str, Value)> {
    vec![
        ("/consumers/jack", json!({"username": "jack", "plugins": {"key-auth": {"key": "k"}}})),
        (
            "/consumers/jack/credentials/c1",
            json!({"plugins": {"basic-auth": {"username": "u", "password": "p"}}}),
        ),
        ("/consumer_groups/g", json!({"plugins": {"redirect": {"uri": "/b"}}})),
        ("/plugin_configs/p", json!({"plugins": {}})),
        ("/global_rules/r", json!({"plugins": {"redirect": {"uri": "/b"}}})),
        ("/plugin_metadata/redirect", json!({"anything": 1})),
        ("/protos/p", json!({"content": "syntax = \"proto3\"; message M {}"})),
        ("/secrets/vault/s", json!({"uri": "http://v:8200", "prefix": "kv", "token": "t"})),
        ("/stream_routes/s", json!({"server_port": 9100, "upstream": {"nodes": {"a:1": 1}}})),
    ]
}

#[tokio::test]
async fn each_is_stored_read_listed_and_deleted_and_says_if_it_has_no_effect() {
    let server = Server::start().await;
    let effective = [
        "/consumers/jack",
        "/consumers/jack/credentials/c1",
        "/plugin_configs/p",
        "/stream_routes/s",
    ];
    for (path, body) in right() {
        let answer = server.put(path, &body).await.expect(201);
        let warning = answer.headers.get("warning").map(|text| text.to_str().expect("text"));
        assert_eq!(warning.is_none(), effective.contains(&path), "{path} {warning:?}");
        let warning = warning.unwrap_or("299 weft \"no effect");
        assert!(warning.starts_with("299 weft \"") && warning.contains("no effect"), "{warning}");
        assert_eq!(answer.json()["key"], format!("/apisix{path}"));
        let value = server.get(path).await.expect(200).json()["value"].clone();
        for (name, field) in body.as_object().expect("an object") {
            assert_eq!(&value[name], field, "{path}");
        }
        assert_eq!(value.get("create_time").is_some(), path != "/plugin_metadata/redirect");
        assert_eq!(
            server.put(path, &body).await.expect(200).json()["key"],
            format!("/apisix{path}")
        );
        let (folder, _) = path.rsplit_once('/').expect("a folder");
        assert_eq!(server.get(folder).await.expect(200).json()["total"], 1, "{folder}");
    }
    assert_eq!(server.get("/secrets").await.expect(200).json()["total"], 1);
    for (path, id) in [
        ("/consumers/jack/credentials/c1", json!("c1")),
        ("/consumers/jack", Value::Null),
        ("/secrets/vault/s", json!("vault/s")),
        ("/plugin_metadata/redirect", json!("redirect")),
    ] {
        assert_eq!(server.get(path).await.expect(200).json()["value"]["id"], id);
    }
    for (path, _) in right().into_iter().rev() {
        let answer = server.call("DELETE", path, "").await.expect(200).json();
        assert_eq!(answer, json!({"key": format!("/apisix{path}"), "deleted": "1"}));
        let missing = server.get(path).await.expect(404).json();
        let of_consumer = path.contains("credentials");
        assert!(of_consumer || missing == json!({"message": "Key not found"}), "{missing}");
    }
    let ordinary = server.put("/upstreams/1", &json!({"nodes": {}})).await.expect(201);
    assert!(ordinary.headers.get("warning").is_none());
}

#[tokio::test]
async fn methods_that_apisix_has_not_are_refused_by_name() {
    let server = Server::start().await;
    for (method, path, kind) in [
        ("POST", "/consumers", "consumer"),
        ("PATCH", "/consumers/jack", "consumer"),
        ("PATCH", "/consumers/jack/credentials/c", "credential"),
        ("POST", "/global_rules", "global rule"),
        ("POST", "/consumer_groups", "consumer group"),
        ("POST", "/plugin_configs", "plugin config"),
        ("PATCH", "/plugin_metadata/redirect", "plugin metadata"),
        ("POST", "/secrets/vault", "secret"),
        ("PATCH", "/protos/p", "proto"),
        ("PATCH", "/stream_routes/s", "stream route"),
    ] {
        let answer = server.call(method, path, "{}").await.expect(405);
        assert_eq!(answer.error(), format!("not supported `{method}` method for {kind}"));
    }
    let body = r#"{"content": "message M { }"}"#;
    let answer = server.call("POST", "/protos", body).await.expect(201).json();
    assert_eq!(answer["value"]["id"].as_str().map(str::len), Some(20));
    server.call("POST", "/stream_routes", r#"{"server_port": 1}"#).await.expect(201);
}

#[tokio::test]
async fn sub_paths_are_patched_and_a_ttl_ends_them() {
    let server = Server::start().await;
    server
        .put("/plugin_configs/p", &json!({"plugins": {"redirect": {"uri": "/b"}}}))
        .await
        .expect(201);
    let answer = server.call("PATCH", "/plugin_configs/p/plugins/redirect/uri", "\"/c\"").await;
    assert_eq!(answer.expect(200).json()["value"]["plugins"]["redirect"]["uri"], "/c");
    let vault = json!({"uri": "http://v", "prefix": "kv", "token": "t"});
    server.put("/secrets/vault/1", &vault).await.expect(201);
    let answer = server.call("PATCH", "/secrets/vault/1/token", "\"u\"").await.expect(200).json();
    assert_eq!(
        (&answer["value"]["token"], &answer["value"]["id"]),
        (&json!("u"), &json!("vault/1"))
    );
    let mut watch = server.store.watch("/apisix/consumers/", 0).expect("watched");
    server.put("/consumers?ttl=0.05", &json!({"username": "jack"})).await.expect(201);
    assert!(watch.next().await.expect("the write").entry.is_some());
    assert!(watch.next().await.expect("the end").entry.is_none());
}

#[tokio::test]
async fn wrong_ones_are_refused_in_apisix_s_words() {
    let server = Server::start().await;
    for (path, body) in right() {
        server.put(path, &body).await.expect(201);
    }
    let invalid = |message: &str| format!("invalid configuration: {message}");
    let plugin = |name: &str, message: &str| {
        format!("failed to check the configuration of plugin {name} err: {message}")
    };
    let missing =
        |name: &str| format!("failed to fetch {name} info by {name} id [9], response code: 404");
    for (path, body, error) in [
        ("/consumers", json!({}), invalid("property \"username\" is required")),
        ("/consumers/a", json!({"username": "b"}), "wrong username".to_owned()),
        ("/consumers/a", json!({"username": "a", "group_id": "9"}), missing("consumer group")),
        (
            "/consumers/a",
            json!({"username": "a", "plugins": {"key-auth": {}}}),
            plugin("key-auth", "property \"key\" is required"),
        ),
        (
            "/consumers/a",
            json!({"username": "a", "plugins": {"key-auth": {"key": "k"}}}),
            "duplicate key of plugin key-auth found with consumer: jack".to_owned(),
        ),
        (
            "/consumers/a",
            json!({"username": "a", "plugins": {"basic-auth": {"username": "u", "password": "x"}}}),
            "duplicate key of plugin basic-auth found with consumer: jack".to_owned(),
        ),
        (
            "/consumers/a",
            json!({"username": "a", "plugins": {"x": {}}}),
            "unknown plugin [x]".to_owned(),
        ),
        (
            "/consumers/jack/credentials/c2",
            json!({"plugins": {"redirect": {"uri": "/b"}}}),
            "only supports auth type plugins in consumer credential, got redirect".to_owned(),
        ),
        ("/consumer_groups/x", json!({}), invalid("property \"plugins\" is required")),
        ("/plugin_configs", json!({"plugins": {}}), "missing plugin config id".to_owned()),
        ("/plugin_configs/x", json!({"plugins": {"x": {}}}), "unknown plugin [x]".to_owned()),
        (
            "/global_rules/x",
            json!({"plugins": {"redirect": {"uri": "/c"}}}),
            "plugin 'redirect' already exists in global rule with id 'r'".to_owned(),
        ),
        ("/plugin_metadata", json!({}), "missing plugin name".to_owned()),
        ("/plugin_metadata/x", json!({}), "invalid plugin name".to_owned()),
        ("/protos/x", json!({}), invalid("property \"content\" is required")),
        ("/secrets/other/x", json!({}), "invalid secret manager: other".to_owned()),
        (
            "/secrets/vault/x",
            json!({"uri": "http://v", "prefix": "a"}),
            invalid("property \"token\" is required"),
        ),
        ("/stream_routes/x", json!({"upstream_id": "9"}), missing("upstream")),
        (
            "/stream_routes/x",
            json!({"plugins": {"mqtt-proxy": {}}}),
            "unknown stream plugin [mqtt-proxy]".to_owned(),
        ),
        (
            "/stream_routes/x",
            json!({"protocol": {"name": "redis", "superior_id": "9"}}),
            "failed to fetch stream routes[9], response code: 404".to_owned(),
        ),
    ] {
        assert_eq!(server.put(path, &body).await.expect(400).error(), error, "{path} {body}");
    }
    let answer = server.put("/consumers/nobody/credentials/c", &json!({})).await.expect(404);
    assert_eq!(answer.error(), "consumer not found");
    // Its own key is no duplicate.
    server.put("/consumers/jack", &right()[0].1).await.expect(200);
}

#[tokio::test]
async fn what_is_in_use_stays_and_a_consumer_takes_its_credentials_along() {
    let server = Server::start().await;
    for (path, body) in right() {
        server.put(path, &body).await.expect(201);
    }
    server.put("/upstreams/u", &json!({"nodes": {}})).await.expect(201);
    server.put("/services/s", &json!({})).await.expect(201);
    server.put("/consumers/ann", &json!({"username": "ann", "group_id": "g"})).await.expect(201);
    let route = json!({"uri": "/a", "plugins": {}, "plugin_config_id": "p"});
    let answer = server.put("/routes/1", &route).await.expect(201);
    assert_eq!(answer.headers.get("warning"), None);
    let stream = json!({"upstream_id": "u", "service_id": "s", "protocol": {"name": "redis"}});
    server.put("/stream_routes/a", &stream).await.expect(201);
    let below = json!({"protocol": {"name": "redis", "superior_id": "a"}});
    server.put("/stream_routes/b", &below).await.expect(201);
    for (path, by) in [
        ("/consumer_groups/g", "consumer group, consumer [ann]"),
        ("/plugin_configs/p", "plugin config, route [1]"),
        ("/services/s", "service directly, stream_route [a]"),
        ("/upstreams/u", "upstream, stream_route [a]"),
        ("/stream_routes/a", "stream route, stream_route [b]"),
    ] {
        let answer = server.call("DELETE", path, "").await.expect(400);
        assert_eq!(answer.error(), format!("can not delete this {by} is still using it now"));
        server.call("DELETE", &format!("{path}?force=true"), "").await.expect(200);
    }
    assert_eq!(
        server.get("/stream_routes?filter=service_id%3Ds").await.expect(200).json()["total"],
        0
    );
    server.call("DELETE", "/consumers/jack", "").await.expect(200);
    server.put("/consumers/jack", &json!({"username": "jack"})).await.expect(201);
    assert_eq!(server.get("/consumers/jack/credentials").await.expect(200).json()["total"], 0);
}

#[tokio::test]
async fn schemas_and_whole_configurations_are_checked() {
    let server = Server::start().await;
    for name in [
        "consumer",
        "credential",
        "consumer_group",
        "plugin_config",
        "global_rule",
        "proto",
        "stream_route",
    ] {
        assert_eq!(
            server.get(&format!("/schema/{name}")).await.expect(200).json()["type"],
            "object"
        );
    }
    let answer = server.call("POST", "/schema/validate/consumers", "{}").await.expect(400);
    assert_eq!(answer.error(), "property \"username\" is required");
    let key_auth = server.get("/plugins/key-auth?schema_type=consumer").await.expect(200).json();
    assert_eq!(key_auth["required"], json!(["key"]));
    let all = json!({
        "routes": [{"id": "1", "uri": "/a", "upstream_id": "9"}, {"id": "1", "uri": "/a"}],
        "consumers": [{"username": "a"}, {"id": "a/credentials/c", "plugins": 1}],
        "secrets": [{"id": "other/1"}],
    });
    let answer = server.call("POST", "/configs/validate", &all.to_string()).await.expect(400);
    assert_eq!(answer.error(), "Configuration validation failed");
    let errors = answer.json()["errors"].clone();
    let places: Vec<_> = errors
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| {
            (error["resource_type"].clone(), error["index"].clone(), error["resource_id"].clone())
        })
        .collect();
    assert_eq!(
        places,
        [
            (json!("routes"), json!(1), json!("1")),
            (json!("consumers"), json!(1), json!("a/credentials/c")),
            (json!("secrets"), json!(0), json!("other/1")),
        ]
    );
    let right = json!({"routes": [{"id": "1", "uri": "/a", "upstream_id": "9"}]});
    let answer = server.call("POST", "/configs/validate", &right.to_string()).await.expect(200);
    assert_eq!(answer.json(), json!({}));
}
