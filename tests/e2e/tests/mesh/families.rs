//! IPv6, intercepted on both sides.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_testkit::{Upstream, until};

use crate::member::{Families, Member, Profile, caller};
use crate::world::{World, get_as, listen};

#[tokio::test]
async fn requests_over_ipv6_pass_the_sidecars() -> Result<()> {
    let world = World::start().await?;
    let server = Profile::workload("six", &["http:8080"]).families(Families::V6);
    let server = Member::start(&world, server).await?;
    let application = server.application(8080)?;
    let client = Profile::workload("client", &[]).families(Families::Both);
    let client = Member::start(&world, client).await?;
    let outsider = world.network.host("outsider")?;
    let outside = Upstream::serve("outside", listen(&outsider, 80)?)?;

    // By name: the workload behind it has an IPv6 address only.
    let address = world.publish("six", 8080, &json!({}), &json!({})).await?;
    let capture = world.network.capture()?;
    until("an answer", || async {
        let reply = get_as(&client.host, address, "six", "/").await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        Ok(())
    })
    .await?;
    let seen = caller(&application)?;
    ensure!(seen.contains(&client.identity()), "seen as {seen:?}");
    let six = |host: &weft_netns::Host| host.ipv6().context("this kernel has no IPv6");
    let (client_six, server_six) = (six(&client.host)?, six(&server.host)?);
    let trace = capture.stop()?.between(client_six.into(), server_six.into());
    ensure!(trace.tls_records() > 0, "no TLS over IPv6");

    // Inbound from outside the mesh: the sidecar made a request id.
    let direct = (server_six, 8080).into();
    let reply = get_as(&outsider, direct, "six", "/plain").await?;
    ensure!(reply.status == 200, "{reply:?}");
    let seen = application.seen();
    let last = seen.last().context("no request came")?;
    ensure!(last.path == "/plain" && last.headers.contains_key("x-request-id"), "{last:?}");

    // Outbound to an address outside the mesh.
    let direct = (six(&outsider)?, 80).into();
    let reply = get_as(&client.host, direct, "elsewhere.test", "/out").await?;
    ensure!((reply.status, reply.header("x-upstream")) == (200, "outside"), "{reply:?}");
    let seen = outside.seen();
    ensure!(seen[0].headers.contains_key("x-request-id"), "not intercepted: {seen:?}");
    Ok(())
}
