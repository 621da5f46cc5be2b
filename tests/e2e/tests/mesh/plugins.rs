//! APISIX's plugins, from the Admin API to the answer: at the edge and inside the mesh.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::timeout;
use weft_netns::Host;
use weft_testkit::{DEADLINE, Reply, Upstream, send_on, until};

use crate::member::{Member, Profile};
use crate::world::{World, connect, listen};

const EDGE_PORT: u16 = 9080;

struct Case {
    world: World,
    application: Upstream,
    edge: Member,
    client: Member,
    outsider: Host,
    /// Where the mesh reaches the service.
    inside: SocketAddr,
    _server: Member,
}

/// From where a request comes.
#[derive(Clone, Copy, Debug)]
enum Side {
    /// Through the edge.
    North,
    /// From another workload.
    East,
}

impl Case {
    async fn start(route: &Value) -> Result<Self> {
        let world = World::start().await?;
        let server = Member::start(&world, Profile::workload("shop", &["http:8080"])).await?;
        let application = server.application(8080)?;
        let edge = Member::start(&world, Profile::edge()).await?;
        let client = Member::start(&world, Profile::workload("client", &[])).await?;
        let outsider = world.network.host("outsider")?;
        let inside = world.publish("shop", 8080, route, &json!({})).await?;
        Ok(Self { world, application, edge, client, outsider, inside, _server: server })
    }

    async fn get(&self, side: Side, path: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        self.send(side, Request::get(path), headers, "").await
    }

    async fn send(
        &self,
        side: Side,
        request: http::request::Builder,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Result<Reply> {
        let (from, to) = match side {
            Side::North => (&self.outsider, (self.edge.host.ipv4(), EDGE_PORT).into()),
            Side::East => (&self.client.host, self.inside),
        };
        let mut request = request.header("host", "shop");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from_static(body.as_bytes())))?;
        timeout(DEADLINE, send_on(connect(from, to).await?, request)).await?
    }

    async fn put(&self, path: &str, body: &Value) -> Result<()> {
        self.world.put(&format!("/apisix/admin/{path}"), body).await.map(drop)
    }

    /// Waits until both sides answer with this status.
    async fn settles(&self, path: &str, headers: &[(&str, &str)], status: u16) -> Result<()> {
        for side in [Side::North, Side::East] {
            until(&format!("{status} from {side:?}"), || async {
                let reply = self.get(side, path, headers).await?;
                ensure!(reply.status == status, "{} {}", reply.status, reply.text());
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    fn last_consumer(&self) -> Option<String> {
        let seen = self.application.seen();
        let value = seen.last()?.headers.get("x-consumer-username")?;
        Some(value.to_str().ok()?.to_owned())
    }
}

#[tokio::test]
async fn plugins_and_consumers_take_effect_at_the_edge_and_inside_the_mesh() -> Result<()> {
    let plugins = json!({"plugins": {
        "key-auth": {},
        "ip-restriction": {"blacklist": ["203.0.113.0/24"]},
        "request-id": {},
        "response-rewrite": {"headers": {"set": {"x-path": "$uri"}}},
    }});
    let case = Case::start(&plugins).await?;
    case.settles("/a", &[], 401).await?;
    case.put("consumers", &json!({"username": "jack", "plugins": {"key-auth": {"key": "k1"}}}))
        .await?;
    case.put("consumers", &json!({"username": "jill"})).await?;
    case.put("consumers/jill/credentials/c1", &json!({"plugins": {"key-auth": {"key": "k2"}}}))
        .await?;
    for (key, name) in [("k1", "jack"), ("k2", "jill")] {
        case.settles("/a", &[("apikey", key)], 200).await?;
        for side in [Side::North, Side::East] {
            let reply = case.get(side, "/a", &[("apikey", key)]).await?;
            ensure!(case.last_consumer().as_deref() == Some(name), "{side:?}");
            ensure!(reply.headers["x-path"] == "/a", "{:?}", reply.headers);
            ensure!(reply.headers.contains_key("x-request-id"), "{:?}", reply.headers);
        }
    }
    let refused = case.get(Side::North, "/a", &[("apikey", "k3")]).await?;
    ensure!(
        refused.text() == "{\"message\":\"Invalid API key in request\"}\n",
        "{}",
        refused.text()
    );
    // A plugin's configuration changes while requests go on.
    let strict = json!({"plugins": {"ip-restriction": {"whitelist": ["203.0.113.0/24"]}}});
    case.world.put_route("shop", 8080, &strict, &json!({})).await?;
    case.settles("/a", &[], 403).await?;
    // What many routes share, and what holds for all.
    case.put("plugin_configs/1", &json!({"plugins": {"key-auth": {"header": "x-key"}}})).await?;
    case.put(
        "global_rules/1",
        &json!({"plugins": {"response-rewrite": {"headers": {"set": {"x-global": "1"}}}}}),
    )
    .await?;
    case.world.put_route("shop", 8080, &json!({"plugin_config_id": "1"}), &json!({})).await?;
    case.settles("/a", &[], 401).await?;
    case.settles("/a", &[("x-key", "k1")], 200).await?;
    for side in [Side::North, Side::East] {
        let reply = case.get(side, "/a", &[("x-key", "k1")]).await?;
        ensure!(reply.headers.get("x-global").is_some(), "{side:?} {:?}", reply.headers);
    }
    for member in [&case.edge, &case.client] {
        let dump = member.admin("/config_dump").await?;
        ensure!(!dump.contains("\"k1\""), "a key is shown");
    }
    Ok(())
}

#[tokio::test]
async fn bodies_are_validated_and_rewritten_and_limits_hold() -> Result<()> {
    let plugins = json!({"plugins": {
        "request-validation": {"body_schema": {"required": ["n"]}},
        "response-rewrite": {"filters": [{"regex": "n", "replace": "N", "scope": "global"}]},
        "prometheus": {},
    }});
    let case = Case::start(&plugins).await?;
    case.settles("/", &[], 400).await?;
    for side in [Side::North, Side::East] {
        let reply = case.send(side, Request::post("/"), &[], "{\"n\":1}").await?;
        ensure!(reply.text() == "{\"N\":1}", "{side:?} {} {}", reply.status, reply.text());
        let reply = case.send(side, Request::post("/"), &[], "{}").await?;
        // The refusal is a response like others, and rewritten too.
        ensure!(reply.text() == "property \"N\" is required", "{side:?} {}", reply.text());
    }
    let limited = json!({"plugins": {
        "limit-count": {"count": 2, "time_window": 3600, "rejected_code": 429},
        "client-control": {"max_body_size": 5},
    }});
    case.world.put_route("shop", 8080, &limited, &json!({})).await?;
    case.settles("/", &[], 429).await?;
    let metrics = json!({
        "uri": "/apisix/prometheus/metrics", "hosts": ["metrics"],
        "plugins": {"public-api": {}},
    });
    case.put("routes/metrics", &metrics).await?;
    until("the metrics", || async {
        let request = Request::get("/apisix/prometheus/metrics").header("host", "metrics");
        let request = request.body(Full::<Bytes>::default())?;
        let edge = (case.edge.host.ipv4(), EDGE_PORT).into();
        let stream = connect(&case.outsider, edge).await?;
        let reply = timeout(DEADLINE, send_on(stream, request)).await??;
        let line = "apisix_http_status{code=\"200\",route=\"shop\",matched_uri=\"/*\"";
        ensure!(reply.text().contains(line), "{} {}", reply.status, reply.text());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn another_server_decides_and_answers_are_compressed() -> Result<()> {
    let case = Case::start(&json!({})).await?;
    let host = case.world.network.host("auth")?;
    let server = Upstream::serve("auth", listen(&host, 8181)?)?;
    let plugins = json!({"plugins": {
        "forward-auth": {
            "uri": format!("http://{}:8181/check", host.ipv4()),
            "upstream_headers": ["x-upstream"],
        },
        "gzip": {"types": "*", "min_length": 1},
    }});
    case.world.put_route("shop", 8080, &plugins, &json!({})).await?;
    for side in [Side::North, Side::East] {
        until(&format!("asked from {side:?}"), || async {
            let request = Request::post("/a");
            let reply = case.send(side, request, &[("accept-encoding", "gzip")], "text").await?;
            ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
            let seen = case.application.seen();
            let told = seen.last().and_then(|request| request.headers.get("x-upstream"));
            ensure!(told.is_some_and(|value| value == "auth"), "{seen:?}");
            ensure!(reply.header("content-encoding") == "gzip", "{reply:?}");
            Ok(())
        })
        .await?;
    }
    let asked = server.seen();
    let last = asked.last().expect("it was asked");
    ensure!(last.path == "/check" && last.headers["x-forwarded-uri"] == "/a", "{last:?}");
    drop(server);
    case.settles("/a", &[], 403).await
}
