//! Who must speak mTLS, switched while the workloads run.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use serde_json::json;
use weft_netns::Host;
use weft_testkit::{Upstream, until};

use crate::member::{Member, Profile, caller};
use crate::world::{NAMESPACE, World, get_as};

struct Case {
    world: World,
    client: Member,
    application: Upstream,
    outsider: Host,
    /// Where the mesh reaches the service.
    inside: SocketAddr,
    /// The workload itself.
    direct: SocketAddr,
    _server: Member,
}

impl Case {
    async fn start() -> Result<Self> {
        let world = World::start().await?;
        let server = Member::start(&world, Profile::workload("guarded", &["http:8080"])).await?;
        let application = server.application(8080)?;
        let client = Member::start(&world, Profile::workload("client", &[])).await?;
        let outsider = world.network.host("outsider")?;
        let inside = world.publish("guarded", 8080, &json!({}), &json!({})).await?;
        let direct = (server.host.ipv4(), 8080).into();
        Ok(Self { world, client, application, outsider, inside, direct, _server: server })
    }

    async fn switch(&self, mode: &str) -> Result<()> {
        let policy = json!({
            "namespace": NAMESPACE,
            "selector": { "matchLabels": { "app": "guarded" } },
            "mtls": { "mode": mode },
        });
        self.world.put("/weft/admin/peer_authentications/guarded", &policy).await.map(drop)
    }

    /// The identity that the service saw the meshed client with; empty for plaintext.
    async fn meshed(&self) -> Result<String> {
        let reply = get_as(&self.client.host, self.inside, "guarded", "/").await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        caller(&self.application)
    }

    async fn plaintext(&self) -> Result<u16> {
        Ok(get_as(&self.outsider, self.direct, "guarded", "/").await?.status)
    }

    /// Waits until the meshed client is seen with or without its identity.
    async fn meshed_is(&self, mode: &str, identified: bool) -> Result<()> {
        until(&format!("the meshed client under {mode}"), || async {
            let seen = self.meshed().await?;
            ensure!(seen.contains(&self.client.identity()) == identified, "seen as {seen:?}");
            Ok(())
        })
        .await
    }

    async fn plaintext_is(&self, mode: &str, answered: bool) -> Result<()> {
        until(&format!("plaintext under {mode}"), || async {
            match self.plaintext().await {
                Ok(200) if answered => Ok(()),
                Err(_) if !answered => Ok(()),
                other => bail!("{other:?}"),
            }
        })
        .await
    }
}

#[tokio::test]
async fn strict_permissive_and_disable_take_effect_while_workloads_run() -> Result<()> {
    let case = Case::start().await?;
    case.meshed_is("no policy", true).await?;
    case.plaintext_is("no policy", true).await?;
    for (mode, identified, plaintext) in [
        ("STRICT", true, false),
        ("PERMISSIVE", true, true),
        ("DISABLE", false, true),
        ("STRICT", true, false),
        ("DISABLE", false, true),
        ("PERMISSIVE", true, true),
    ] {
        case.switch(mode).await?;
        case.plaintext_is(mode, plaintext).await?;
        case.meshed_is(mode, identified).await?;
        // Still so after the other has called.
        case.plaintext_is(mode, plaintext).await?;
    }
    Ok(())
}
