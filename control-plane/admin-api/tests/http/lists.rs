use serde_json::{Value, json};

use crate::client::{Answer, Server};

fn ids(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let items = json["list"].as_array().expect("a list").iter();
    items.map(|item| item["value"]["id"].as_str().expect("an id").to_owned()).collect()
}

async fn with_routes(count: usize) -> Server {
    let server = Server::start().await;
    for id in (1..=count).rev() {
        let route = json!({"uri": format!("/r{id}"), "name": format!("n{id}"), "plugins": {}});
        server.put(&format!("/routes/{id:02}"), &route).await.expect(201);
    }
    server
}

#[tokio::test]
async fn an_empty_list_is_a_list() {
    let server = Server::start().await;
    let answer = server.get("/routes").await.expect(200);
    assert_eq!(answer.text, "{\"list\":[],\"total\":0}\n");
}

#[tokio::test]
async fn a_list_has_envelopes_in_the_order_of_keys() {
    let server = with_routes(3).await;
    let answer = server.get("/routes").await.expect(200);
    assert_eq!(ids(&answer), ["01", "02", "03"]);
    let first = answer.json()["list"][0].clone();
    assert_eq!(first["key"], "/apisix/routes/01");
    assert!(first["createdIndex"].is_u64() && first["modifiedIndex"].is_u64());
    assert_eq!(answer.json()["total"], 3);
}

#[tokio::test]
async fn pages_are_in_the_order_of_creation() {
    let server = with_routes(12).await;
    let answer = server.get("/routes?page=1&page_size=10").await.expect(200);
    assert_eq!((ids(&answer)[0].as_str(), ids(&answer).len()), ("12", 10));
    assert_eq!(answer.json()["total"], 12);
    let answer = server.get("/routes?page=2&page_size=10").await.expect(200);
    assert_eq!(ids(&answer), ["02", "01"]);
    assert_eq!(ids(&server.get("/routes?page=0&page_size=10").await.expect(200)).len(), 10);
    assert_eq!(ids(&server.get("/routes?page_size=9").await.expect(200)).len(), 12);
    for size in [9, 501] {
        let answer = server.get(&format!("/routes?page=1&page_size={size}")).await.expect(400);
        assert_eq!(answer.text, "page_size must be between 10 and 500");
    }
}

#[tokio::test]
async fn filters_must_all_pass() {
    let server = Server::start().await;
    server.put("/services/7", &json!({})).await.expect(201);
    let put = async |id: &str, route: Value| {
        server.put(&format!("/routes/{id}"), &route).await.expect(201);
    };
    put("1", json!({"uri": "/foo/a", "name": "alpha", "plugins": {}, "labels": {"env": "x"}}))
        .await;
    put("2", json!({"uris": ["/bar", "/foo/b"], "name": "beta", "service_id": "7"})).await;
    put("3", json!({"uri": "/bar", "plugins": {}})).await;
    for (query, expected) in [
        ("name=a$", &["1", "2"][..]),
        ("name=^al", &["1"]),
        ("name=(", &[]),
        ("label=env", &["1"]),
        ("uri=/foo", &["1", "2"]),
        ("uri=/foo&label=env", &["1"]),
        ("filter=service_id%3D7", &["2"]),
        ("filter=service_id%3D7%26name%3Dx", &["2"]),
        ("filter=service_id%3D8", &[]),
    ] {
        let answer = server.get(&format!("/routes?{query}")).await.expect(200);
        assert_eq!(ids(&answer), expected, "{query}");
        assert_eq!(answer.json()["total"], expected.len());
    }
}
