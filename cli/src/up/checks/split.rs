//! The canary: shares hold, and move without a failed request.

use anyhow::{Context, Result};

use super::super::load::now;
use super::super::mesh::Mesh;

/// What a change may take until every proxy follows it, in milliseconds.
const AT_ONCE: u64 = 250;
const BEFORE: usize = 300;
const AFTER: usize = 1000;

pub(super) async fn holds(mesh: &Mesh<'_>) -> Result<String> {
    let sample = mesh.call(1500, &[]).await?;
    sample.all_succeeded()?;
    let share = sample.expect_share("v2", 10.0)?;
    Ok(format!("{share:.1} % of {} requests reached v2", sample.len()))
}

pub(super) async fn moves(mesh: &Mesh<'_>) -> Result<String> {
    let load = mesh.load()?;
    let started = now();
    load.wait_for_requests(BEFORE, started).await?;
    mesh.split(50).await?;
    let changed = now();
    load.wait_for_requests(AFTER, changed + AT_ONCE).await?;
    let sample = load.stop().await?;
    sample.all_succeeded()?;
    let share = sample
        .since(changed + AT_ONCE)
        .expect_share("v2", 50.0)
        .with_context(|| format!("{AT_ONCE} ms after the change"))?;
    Ok(format!(
        "{share:.1} % reached v2 from {AT_ONCE} ms after the change on; 0 of {} requests failed",
        sample.len()
    ))
}
