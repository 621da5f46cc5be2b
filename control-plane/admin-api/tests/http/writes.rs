use std::sync::Arc;

use serde_json::{Value, json};
use weft_admin_api::Access;
use weft_store::FileStore;

use crate::client::Server;

fn route() -> Value {
    json!({"uri": "/hello", "upstream": {"nodes": {"127.0.0.1:80": 1}}})
}

#[tokio::test]
async fn a_put_creates_then_replaces_and_stores_no_defaults() {
    let server = Server::start().await;
    let answer = server.put("/routes/1", &route()).await.expect(201).json();
    assert_eq!(answer["key"], "/apisix/routes/1");
    let created = answer["value"]["create_time"].clone();
    let expected = json!({"id": "1", "uri": "/hello", "upstream": {"nodes": {"127.0.0.1:80": 1}},
        "create_time": created, "update_time": answer["value"]["update_time"]});
    assert_eq!(answer["value"], expected);
    assert!(answer.get("createdIndex").is_none() && answer.get("modifiedIndex").is_none());
    let answer = server.put("/routes/1", &route()).await.expect(200).json();
    assert_eq!(answer["value"]["create_time"], created);
    let answer = server.get("/routes/1").await.expect(200).json();
    assert!(answer["modifiedIndex"].as_u64() > answer["createdIndex"].as_u64());
    assert_eq!(answer["value"]["uri"], "/hello");
}

#[tokio::test]
async fn the_id_comes_from_url_or_body() {
    let server = Server::start().await;
    let with = |id: Value| {
        let mut route = route();
        route["id"] = id;
        route
    };
    let answer = server.put("/routes", &with(json!(7))).await.expect(201).json();
    assert_eq!((&answer["key"], &answer["value"]["id"]), (&json!("/apisix/routes/7"), &json!(7)));
    for (method, path, body, error) in [
        ("PUT", "/routes", route(), "missing route id"),
        ("PUT", "/services", json!({}), "missing service id"),
        ("PUT", "/routes/1", with(json!("2")), "wrong route id"),
        ("POST", "/routes/1", route(), "wrong route id, do not need it"),
        ("POST", "/routes", with(json!(1)), "wrong route id, do not need it"),
        ("DELETE", "/routes", Value::Null, "missing route id"),
        ("PATCH", "/upstreams", json!({}), "missing upstream id"),
        (
            "PUT",
            "/routes/a%20b",
            route(),
            "invalid configuration: property \"id\" validation failed: \
             object matches none of the required",
        ),
    ] {
        let answer = server.call(method, path, &body.to_string()).await.expect(400);
        assert_eq!(answer.error(), error, "{method} {path}");
    }
}

#[tokio::test]
async fn a_post_makes_an_id_of_twenty_digits() {
    let server = Server::start().await;
    let answer = server.call("POST", "/routes", &route().to_string()).await.expect(201).json();
    let id = answer["value"]["id"].as_str().expect("an id").to_owned();
    assert_eq!((id.len(), answer["key"].clone()), (20, json!(format!("/apisix/routes/{id}"))));
    server.get(&format!("/routes/{id}")).await.expect(200);
}

#[tokio::test]
async fn a_delete_tells_what_it_deleted() {
    let server = Server::start().await;
    server.put("/routes/1", &route()).await.expect(201);
    let answer = server.call("DELETE", "/routes/1", "").await.expect(200);
    assert_eq!(answer.json(), json!({"deleted": "1", "key": "/apisix/routes/1"}));
    for method in ["DELETE", "GET"] {
        let answer = server.call(method, "/routes/1", "").await.expect(404);
        assert_eq!(answer.text, "{\"message\":\"Key not found\"}\n");
    }
    let answer = server.call("PATCH", "/routes/1", "{}").await.expect(404);
    assert_eq!(answer.json(), json!({"message": "Key not found"}));
}

#[tokio::test]
async fn times_are_the_store_s() {
    let server = Server::start().await;
    for (place, error) in [
        ("/create_time", "the property is forbidden:  create_time"),
        ("/update_time", "the property is forbidden:  update_time"),
        ("/upstream/create_time", "the property is forbidden:  upstream.create_time"),
        ("/plugins/update_time", "the property is forbidden:  plugins.update_time"),
    ] {
        let mut route = route();
        route["plugins"] = json!({});
        let (parent, name) = place.rsplit_once('/').expect("a path");
        route.pointer_mut(parent).expect("an object")[name] = json!(1);
        assert_eq!(server.put("/routes/1", &route).await.expect(400).error(), error);
    }
    server.put("/routes/1", &route()).await.expect(201);
    let patch = json!({"create_time": 5, "update_time": 6}).to_string();
    let answer = server.call("PATCH", "/routes/1", &patch).await.expect(200).json();
    let times = (&answer["value"]["create_time"], &answer["value"]["update_time"]);
    assert_eq!(times, (&json!(5), &json!(6)));
    let answer = server.call("PATCH", "/routes/1", "{\"desc\":\"x\"}").await.expect(200).json();
    assert!(answer["value"]["update_time"].as_u64() > Some(6));
}

#[tokio::test]
async fn a_patch_merges_and_a_sub_path_replaces() {
    let server = Server::start().await;
    let upstream = json!({"nodes": {"a:1": 1, "b:1": 1}, "desc": "x", "retries": 2});
    server.put("/upstreams/1", &upstream).await.expect(201);
    let patch = json!({"nodes": {"b:1": null, "c:1": 5}, "desc": null});
    let answer = server.call("PATCH", "/upstreams/1", &patch.to_string()).await.expect(200).json();
    assert_eq!(answer["key"], "/apisix/upstreams/1");
    assert_eq!(answer["value"]["nodes"], json!({"a:1": 1, "c:1": 5}));
    assert!(answer["value"].get("desc").is_none());
    let answer = server.call("PATCH", "/upstreams/1/nodes", "{\"d:1\":1}").await.expect(200).json();
    assert_eq!(answer["value"]["nodes"], json!({"d:1": 1}));
    let answer = server.call("PATCH", "/upstreams/1/timeout/read", "3").await.expect(400);
    let error = "invalid configuration: property \"timeout\" validation failed: \
                 property \"connect\" is required";
    assert_eq!(answer.error(), error);
    for (path, body, error) in [
        ("/upstreams/1", "", "missing new configuration"),
        ("/upstreams/1", "5", "invalid configuration"),
        ("/upstreams/1/retries/x", "5", "invalid sub-path: /retries"),
        ("/upstreams/1", "{\"id\":\"2\"}", "wrong upstream id"),
    ] {
        assert_eq!(server.call("PATCH", path, body).await.expect(400).error(), error, "{path}");
    }
}

#[tokio::test]
async fn of_two_patches_at_once_none_is_lost() {
    let server = Server::start().await;
    server.put("/upstreams/1", &json!({"nodes": {}})).await.expect(201);
    let patch = |name: &'static str| {
        let server = &server;
        async move {
            let body = format!("{{\"labels\":{{\"{name}\":\"x\"}}}}");
            let answer = server.call("PATCH", "/upstreams/1", &body).await;
            if answer.status == 503 {
                assert_eq!(answer.error(), "value changed before overwritten");
            }
            answer.status == 200
        }
    };
    let (a, b) = tokio::join!(patch("a"), patch("b"));
    let labels = server.get("/upstreams/1").await.expect(200).json()["value"]["labels"].clone();
    assert_eq!((labels.get("a").is_some(), labels.get("b").is_some()), (a, b));
    assert!(a || b);
}

#[tokio::test]
async fn a_ttl_ends_a_resource() {
    let server = Server::start().await;
    let answer = server.put("/routes/1?ttl=x", &route()).await.expect(400);
    assert_eq!(answer.error(), "invalid argument ttl: should be a number");
    let answer = server.put("/routes/1?ttl=0", &route()).await.expect(400);
    assert_eq!(answer.error(), "invalid argument ttl: should be more than 0 seconds");
    let mut watch = server.store.watch("/apisix/routes/", 0).expect("watched");
    server.put("/routes/1?ttl=0.05", &route()).await.expect(201);
    assert!(watch.next().await.expect("the write").entry.is_some());
    assert!(watch.next().await.expect("the end").entry.is_none());
    server.get("/routes/1").await.expect(404);
}

#[tokio::test]
async fn what_no_proxy_can_do_is_not_stored() {
    let server = Server::start().await;
    let udp = json!({"nodes": {}, "scheme": "udp"});
    let error = "invalid configuration: scheme: no UDP";
    assert_eq!(server.put("/upstreams/1", &udp).await.expect(400).error(), error);
    let answer = server.call("POST", "/upstreams", &udp.to_string()).await.expect(400);
    assert_eq!(answer.error(), error);
    server.put("/upstreams/1", &json!({"nodes": {}})).await.expect(201);
    let answer = server.call("PATCH", "/upstreams/1", "{\"scheme\":\"udp\"}").await.expect(400);
    assert_eq!(answer.error(), error);
    let answer = server.get("/upstreams/1").await.expect(200).json();
    assert!(answer["value"].get("scheme").is_none());
}

#[tokio::test]
async fn what_a_file_declares_is_read_and_its_name_is_told_to_who_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("apisix.yaml");
    let text = "routes: [{id: 1, uri: /a, upstream: {nodes: {\"a:1\": 1}}}]\n#END\n";
    std::fs::write(&path, text).expect("written");
    let store = FileStore::open(&path, &folder.path().join("memory.redb")).await;
    let server = Server::over(Arc::new(store.expect("a store")), folder, Access::Open).await;
    assert_eq!(server.get("/routes/1").await.expect(200).json()["value"]["uri"], "/a");
    for (method, path) in [("PUT", "/routes/1"), ("POST", "/routes"), ("DELETE", "/routes/1")] {
        let answer = server.call(method, path, &route().to_string()).await.expect(404);
        let error = answer.error();
        assert!(error.starts_with("not found: ") && error.contains("apisix.yaml"), "{error}");
    }
}
