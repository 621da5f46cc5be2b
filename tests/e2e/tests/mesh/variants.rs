//! Sidecars that ask for the state of the world.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use weft_testkit::until;

use crate::member::{Member, Profile, caller};
use crate::world::{World, get_as};

fn state_of_the_world(bootstrap: &mut Value) {
    bootstrap["dynamic_resources"]["ads_config"]["api_type"] = json!("GRPC");
}

#[tokio::test]
async fn the_state_of_the_world_gives_the_same_mesh() -> Result<()> {
    let world = World::start().await?;
    let server = Profile::workload("world", &["http:8080"]).edited(state_of_the_world);
    let server = Member::start(&world, server).await?;
    let application = server.application(8080)?;
    let client = Profile::workload("client", &[]).edited(state_of_the_world);
    let client = Member::start(&world, client).await?;
    let outsider = world.network.host("outsider")?;
    let address = world.publish("world", 8080, &json!({}), &json!({})).await?;
    let status = |path: &'static str| {
        let client = &client;
        async move { Ok::<_, anyhow::Error>(get_as(&client.host, address, "world", path).await?.status) }
    };
    until("an answer", || async {
        let status = status("/any").await?;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await?;
    let seen = caller(&application)?;
    ensure!(seen.contains(&client.identity()), "seen as {seen:?}");
    // A changed route, a second one, and its removal.
    world.publish("world", 8080, &json!({ "uri": "/only" }), &json!({})).await?;
    until("the narrower route", || async {
        let (any, only) = (status("/any").await?, status("/only").await?);
        ensure!((any, only) == (404, 200), "{any} {only}");
        Ok(())
    })
    .await?;
    let policy = json!({ "namespace": "demo", "mtls": { "mode": "STRICT" } });
    world.put("/weft/admin/peer_authentications/all", &policy).await?;
    let direct = (server.host.ipv4(), 8080).into();
    until("plaintext refused", || async {
        match get_as(&outsider, direct, "world", "/only").await {
            Ok(reply) => bail!("answered with {}", reply.status),
            Err(_) => Ok(()),
        }
    })
    .await?;
    ensure!(status("/only").await? == 200);
    Ok(())
}
