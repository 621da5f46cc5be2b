use weft_admin_api::Access;

use crate::client::{KEY, Server};

#[tokio::test]
async fn a_key_is_needed_and_its_role_counts() {
    let server = Server::start().await;
    let refused = |description: &str| {
        format!("{{\"description\":\"{description}\",\"error_msg\":\"failed to check token\"}}\n")
    };
    for (method, headers, description) in [
        ("GET", &[][..], "missing apikey"),
        ("GET", &[("x-api-key", "other")], "wrong apikey"),
        ("GET", &[("x-api-key", "test-admin-keyx")], "wrong apikey"),
        ("PUT", &[("x-api-key", "viewer-key")], "invalid method for role viewer"),
    ] {
        let answer = server.raw(method, "/apisix/admin/routes", headers, "").await.expect(401);
        assert_eq!(answer.text, refused(description));
    }
    let viewer = [("x-api-key", "viewer-key")];
    server.raw("GET", "/apisix/admin/routes", &viewer, "").await.expect(200);
}

#[tokio::test]
async fn a_key_comes_from_the_query_the_header_or_a_cookie_in_this_order() {
    let server = Server::start().await;
    let path = format!("/apisix/admin/routes?api_key={KEY}");
    server.raw("GET", &path, &[("x-api-key", "wrong")], "").await.expect(200);
    let cookie = format!("a=b; x_api_key={KEY}");
    server.raw("GET", "/apisix/admin/routes", &[("cookie", &cookie)], "").await.expect(200);
    let both = [("x-api-key", "wrong"), ("cookie", cookie.as_str())];
    server.raw("GET", "/apisix/admin/routes", &both, "").await.expect(401);
}

#[tokio::test]
async fn without_keys_everyone_is_let_in() {
    let server = Server::with(Access::Open).await;
    server.raw("GET", "/apisix/admin/routes", &[], "").await.expect(200);
}

#[tokio::test]
async fn browsers_of_other_origins_are_answered() {
    let server = Server::start().await;
    let answer = server.raw("OPTIONS", "/apisix/admin/routes", &[], "").await.expect(200);
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "POST, GET, PUT, OPTIONS, DELETE, PATCH"),
        ("access-control-max-age", "3600"),
        ("access-control-allow-headers", "*"),
        ("access-control-allow-credentials", "true"),
    ] {
        assert_eq!(answer.headers[name], value);
    }
    let answer = server.get("/routes").await.expect(200);
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert_eq!(answer.headers["access-control-expose-headers"], "*");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["x-api-version"], "v3");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let server = Server::start().await;
    server.raw("HEAD", "/apisix/admin", &[], "").await.expect(200);
    for (method, path, status, error) in [
        ("GET", "/nothing", 404, "Unsupported resource type: nothing"),
        ("GET", "/credentials", 404, "Unsupported resource type: credentials"),
        ("PUT", "/plugins/redirect", 404, "not found"),
        ("POST", "/schema/route", 404, "not found"),
        ("GET", "/schema/nothing", 400, "not found schema: nothing"),
        ("POST", "/schema/validate/nothing", 404, "Unsupported resource type: nothing"),
        ("GET", "/plugins/nothing", 404, "plugin not found in subsystem http"),
        ("GET", "/plugins/redirect?subsystem=x", 400, "unsupported subsystem: x"),
        (
            "GET",
            "/plugins/reload",
            405,
            "please use PUT method to reload the plugins, GET method is not allowed.",
        ),
    ] {
        let answer = server.call(method, path, "").await.expect(status);
        assert_eq!(answer.error(), error);
    }
}

#[tokio::test]
async fn bodies_must_be_json_and_fit() {
    let server = Server::start().await;
    let answer = server.call("PUT", "/routes/1", "{\"uri\":").await.expect(400);
    assert!(answer.error().starts_with("invalid request body: "), "{answer:?}");
    assert_eq!(answer.json()["req_body"], "{\"uri\":");
    let large = format!("{{\"desc\":\"{}\"}}", "x".repeat(1_572_864));
    let answer = server.call("PUT", "/routes/1", &large).await.expect(400);
    let size = large.len();
    let error = format!(
        "invalid request body: request size {size} is greater than the maximum size 1572864 allowed"
    );
    assert_eq!(answer.error(), error);
    let answer = server.call("PUT", "/routes/1", "").await.expect(400);
    assert_eq!(answer.error(), "missing configurations");
}
