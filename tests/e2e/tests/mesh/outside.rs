//! What is not in the mesh, reached from it and refused.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use weft_testkit::{Upstream, until};

use crate::member::{Member, Profile};
use crate::tcp::{Conversation, Greeter};
use crate::world::{World, get_as, listen};

#[tokio::test]
async fn the_outside_is_reached_in_plaintext_and_refused_with_registry_only() -> Result<()> {
    let world = World::start().await?;
    let outsider = world.network.host("outsider")?;
    let web = Upstream::serve("outside", listen(&outsider, 80)?)?;
    let other = Upstream::serve("outside", listen(&outsider, 8081)?)?;
    let _greeter = Greeter::start(&outsider, 2525)?;
    let server = Member::start(&world, Profile::workload("inside", &["http:8080"])).await?;
    let _application = server.application(8080)?;
    let client = Member::start(&world, Profile::workload("client", &[])).await?;
    let inside = world.publish("inside", 8080, &json!({}), &json!({})).await?;
    let at = |port| SocketAddr::from((outsider.ipv4(), port));
    for port in [80, 8081] {
        let reply = get_as(&client.host, at(port), "elsewhere.test", "/x").await?;
        ensure!((reply.status, reply.header("x-upstream")) == (200, "outside"), "{reply:?}");
    }
    // The port of the mesh's services is read as HTTP, any other passes as it is.
    let host = |upstream: &Upstream| {
        upstream.seen()[0].headers.get("host").map(|host| host.as_bytes().to_vec())
    };
    ensure!(host(&web).as_deref() == Some(&b"elsewhere.test"[..]));
    ensure!(other.seen()[0].headers.get("x-request-id").is_none(), "{:?}", other.seen());
    Conversation::open(&client.host, at(2525)).await?.say("hello").await?;
    ensure!(get_as(&client.host, inside, "inside", "/").await?.status == 200);

    let settings = json!({ "outbound_traffic_policy": "REGISTRY_ONLY" });
    world.put("/weft/admin/mesh", &settings).await?;
    until("refusal", || async {
        let reply = get_as(&client.host, at(80), "elsewhere.test", "/").await?;
        ensure!(reply.status == 502, "{}", reply.status);
        Ok(())
    })
    .await?;
    until("refusal of other ports", || async {
        match get_as(&client.host, at(8081), "elsewhere.test", "/").await {
            Ok(reply) => bail!("answered with {}", reply.status),
            Err(_) => Ok(()),
        }
    })
    .await?;
    let greeted = Conversation::open(&client.host, at(2525)).await;
    ensure!(greeted.is_err(), "a connection to the outside was made");
    let reply = get_as(&client.host, inside, "inside", "/").await;
    ensure!(reply.context("inside the mesh")?.status == 200);
    Ok(())
}
