//! Stream routes: connections through the edge that are no HTTP.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::time::timeout;
use weft_testkit::{DEADLINE, until};

use crate::edge::{Visitor, upload};
use crate::member::{Member, Profile};
use crate::tcp::{Conversation, Greeter};
use crate::world::{STREAM_PORT, STREAM_TLS_PORT, World, connect};

/// Writes a stream route to the workloads of `app`.
async fn route(world: &World, app: &str, conditions: Value) -> Result<()> {
    let mut route = conditions;
    route["upstream"] = json!({
        "type": "roundrobin",
        "scheme": "tcp",
        "discovery_type": "mesh",
        "service_name": format!("demo/{app}:2525"),
    });
    world.put(&format!("/apisix/admin/stream_routes/{app}"), &route).await.map(drop)
}

async fn greeting(stream: impl AsyncRead + Unpin) -> Result<String> {
    let mut line = String::new();
    timeout(DEADLINE, BufReader::new(stream).read_line(&mut line)).await??;
    Ok(line)
}

#[tokio::test]
async fn the_edge_forwards_connections_by_port_name_and_address() -> Result<()> {
    let world = World::start().await?;
    let mail = Member::start(&world, Profile::workload("mail", &["tcp:2525"])).await?;
    let news = Member::start(&world, Profile::workload("news", &["tcp:2525"])).await?;
    let _greeters = [Greeter::start(&mail.host, 2525)?, Greeter::start(&news.host, 2525)?];
    let edge = Member::start(&world, Profile::edge()).await?;
    let outsider = world.network.host("outsider")?;
    let port = SocketAddr::new(edge.host.ipv4().into(), STREAM_PORT);
    route(&world, "mail", json!({ "server_port": STREAM_PORT })).await?;
    let mut conversation =
        until("a greeting", || async { Conversation::open(&outsider, port).await }).await?;
    conversation.say("hello through the edge").await?;

    // The same port, but not for everybody.
    let refused = json!({ "ip-restriction": { "blacklist": [outsider.ipv4().to_string()] } });
    let conditions = json!({ "server_port": STREAM_PORT, "plugins": refused });
    route(&world, "mail", conditions).await?;
    until("nobody answers", || async {
        let line = greeting(connect(&outsider, port).await?).await.unwrap_or_default();
        ensure!(line.is_empty(), "{line:?}");
        Ok(())
    })
    .await?;

    // Over TLS, by name; the greeting comes through only to names that have a route.
    let names = ["mail.weft.test", "news.weft.test", "none.weft.test"];
    let mut certificates = Vec::new();
    for (id, name) in ["one", "two", "three"].iter().zip(names) {
        certificates.push(upload(&world, id, name).await?);
    }
    route(&world, "mail", json!({ "sni": names[0] })).await?;
    route(&world, "news", json!({ "sni": names[1] })).await?;
    let visitor = Visitor { from: &outsider, edge: &edge, port: STREAM_TLS_PORT };
    for (name, certificate) in names.iter().zip(&certificates).take(2) {
        until(name, || async {
            let line = greeting(visitor.open(name, certificate, &[]).await?).await?;
            ensure!(line.starts_with("220 hello"), "{line:?}");
            Ok(())
        })
        .await?;
    }
    ensure!(visitor.open(names[2], &certificates[2], &[]).await.is_err(), "a name without route");
    Ok(())
}
