//! STRICT: plaintext from outside the mesh is refused.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::super::mesh::{Mesh, NAMESPACE, SERVICE};
use super::super::process::wait_for;
use super::wire::{call_address_from_outside, call_from_outside};

const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn strict(mesh: &Mesh<'_>) -> Result<String> {
    call_from_outside(mesh, "none").await.context("before, when PERMISSIVE")?;
    let policy = json!({
        "namespace": NAMESPACE,
        "selector": { "matchLabels": { "app": SERVICE } },
        "mtls": { "mode": "STRICT" },
    });
    mesh.api().put("/weft/admin/peer_authentications/strict", &policy).await?;
    let addresses = mesh.first.host().addresses();
    for &address in &addresses {
        wait_for(FOLLOWED_WITHIN, "plaintext refused", || async {
            match call_address_from_outside(mesh, address, "none").await {
                Ok(status) => bail!("{address} answers plaintext with {status}"),
                Err(_) => Ok(()),
            }
        })
        .await?;
    }
    mesh.call(100, &[]).await?.all_succeeded().context("inside the mesh")?;
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join(" and ");
    Ok(format!(
        "{addresses}: answered when PERMISSIVE, refused when STRICT; in the mesh all is well"
    ))
}
