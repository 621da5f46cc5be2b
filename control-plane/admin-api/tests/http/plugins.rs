use serde_json::{Value, json};

use crate::client::Server;

#[tokio::test]
async fn the_plugins_are_listed_by_priority_and_have_schemas() {
    let server = Server::start().await;
    let list = server.get("/plugins/list").await.expect(200);
    let known: Vec<String> = serde_json::from_value(list.json()).expect("names");
    let place = |name| known.iter().position(|known| known == name).expect("it is listed");
    let some = ["request-id", "ip-restriction", "key-auth", "proxy-mirror", "proxy-rewrite"];
    let rest = ["traffic-split", "redirect", "response-rewrite"];
    assert!(some.into_iter().chain(rest).map(place).is_sorted(), "{known:?}");
    let answer = server.get("/plugins/list?subsystem=x").await.expect(400);
    assert_eq!(answer.text, "invalid subsystem passed");
    let names: Vec<String> = serde_json::from_value(list.json()).expect("names");
    for name in names {
        for path in ["plugins", "schema/plugins"] {
            let schema = server.get(&format!("/{path}/{name}")).await.expect(200).json();
            assert_eq!(schema["type"], "object");
            assert!(schema["properties"]["_meta"].is_object());
        }
    }
    let answer = server.call("PUT", "/plugins/reload", "").await.expect(200);
    assert_eq!(answer.text, "done");
}

#[tokio::test]
async fn wrong_plugins_are_refused_in_apisix_s_words() {
    let server = Server::start().await;
    let failed = |name: &str, error: &str| {
        format!("failed to check the configuration of plugin {name} err: {error}")
    };
    let one = "value should match only one schema, but matches";
    for (name, conf, error) in [
        ("no-such", json!({}), "unknown plugin [no-such]".to_owned()),
        ("redirect", json!(1), "invalid plugin conf 1 for plugin [redirect]".to_owned()),
        ("redirect", json!({}), failed("redirect", &format!("{one} none"))),
        (
            "redirect",
            json!({"uri": "/a", "http_to_https": true}),
            failed("redirect", &format!("{one} both schemas 1 and 3")),
        ),
        (
            "redirect",
            json!({"http_to_https": true, "append_query_string": true}),
            failed(
                "redirect",
                "only one of `http_to_https` and `append_query_string` can be configured.",
            ),
        ),
        ("proxy-mirror", json!({}), failed("proxy-mirror", "property \"host\" is required")),
        (
            "proxy-rewrite",
            json!({"regex_uri": ["^/a", "/b", "c"]}),
            failed("proxy-rewrite", "The length of regex_uri should be an even number"),
        ),
        (
            "proxy-rewrite",
            json!({"headers": {"a b": "c"}}),
            failed("proxy-rewrite", "invalid field character in header"),
        ),
        (
            "traffic-split",
            json!({"rules": [{"match": [{"vars": [["a", "x", "b"]]}]}]}),
            failed(
                "traffic-split",
                "failed to validate the 'vars' expression: invalid operator 'x'",
            ),
        ),
        (
            "traffic-split",
            json!({"rules": [{"weighted_upstreams": []}]}),
            failed(
                "traffic-split",
                "property \"rules\" validation failed: failed to validate item 1: \
                 property \"weighted_upstreams\" validation failed: \
                 expect array to have at least 1 items",
            ),
        ),
    ] {
        let answer = server.put("/routes/1", &route(name, &conf)).await.expect(400);
        assert_eq!(answer.error(), error, "{conf}");
    }
}

#[tokio::test]
async fn right_plugins_are_stored_unchanged() {
    let server = Server::start().await;
    for (name, conf) in [
        ("redirect", json!({"uri": "/b$uri", "ret_code": 308})),
        ("redirect", json!({"_meta": {"disable": true}})),
        ("proxy-rewrite", json!({"uri": "/b", "headers": {"set": {"x": "1"}, "remove": ["y"]}})),
        ("proxy-rewrite", json!({"headers": {"x-a": "1"}})),
        ("proxy-mirror", json!({"host": "http://127.0.0.1:80", "sample_ratio": 0.5})),
        (
            "traffic-split",
            json!({"rules": [{
                "match": [{"vars": [["http_x", "==", "1"]]}],
                "weighted_upstreams": [
                    {"upstream": {"nodes": {"a:1": 1}}, "weight": 9}, {"weight": 1},
                ],
            }]}),
        ),
    ] {
        let answer = server.put("/routes/1", &route(name, &conf)).await;
        assert!(matches!(answer.status, 200 | 201), "{conf}: {answer:?}");
        assert_eq!(answer.json()["value"]["plugins"][name], conf);
    }
}

fn route(name: &str, conf: &Value) -> Value {
    let mut route = json!({"uri": "/a", "plugins": {}});
    route["plugins"][name] = conf.clone();
    route
}
