//! STRICT: plaintext from outside the mesh is refused.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::super::mesh::{Mesh, NAMESPACE, SERVICE};
use super::super::process::wait_for;
use super::wire::call_from_outside;

const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn strict(mesh: &Mesh<'_>) -> Result<String> {
    let status = call_from_outside(mesh, "none").await.context("before, when PERMISSIVE")?;
    ensure!(status == 200, "before, when PERMISSIVE, plaintext was answered with {status}");
    let policy = json!({
        "namespace": NAMESPACE,
        "selector": { "matchLabels": { "app": SERVICE } },
        "mtls": { "mode": "STRICT" },
    });
    mesh.api().put("/weft/admin/peer_authentications/strict", &policy).await?;
    let refusal = wait_for(FOLLOWED_WITHIN, "plaintext refused", || async {
        match call_from_outside(mesh, "none").await {
            Ok(status) => bail!("plaintext is answered with {status}"),
            Err(error) => Ok(error.root_cause().to_string()),
        }
    })
    .await?;
    mesh.call(100, &[]).await?.all_succeeded().context("inside the mesh")?;
    Ok(format!(
        "answered when PERMISSIVE, refused when STRICT ({refusal}); inside the mesh all is well"
    ))
}
