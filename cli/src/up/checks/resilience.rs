//! Static stability: what flows goes on without the control plane.

use std::time::Duration;

use anyhow::{Context, Result};

use super::super::mesh::Mesh;
use super::super::process::wait_for;

const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(30);
const SAMPLE: u32 = 600;

pub(super) async fn no_control(mesh: &mut Mesh<'_>) -> Result<String> {
    mesh.control.stop().await?;
    let sample = mesh.call(SAMPLE, &[]).await?;
    sample.all_succeeded()?;
    let share = sample.expect_share("v2", 50.0)?;
    Ok(format!("{} requests answered, {share:.1} % by v2", sample.len()))
}

pub(super) async fn restart(mesh: &mut Mesh<'_>) -> Result<String> {
    let place = mesh.place();
    for (name, member) in [
        ("client", &mut mesh.client),
        ("greeter-v1", &mut mesh.first),
        ("greeter-v2", &mut mesh.second),
    ] {
        let restarted = async {
            member.stop_sidecar().await?;
            member.start_sidecar(place).await
        };
        restarted.await.with_context(|| format!("restarting the sidecar of {name}"))?;
    }
    let sample = mesh.call(SAMPLE, &[]).await?;
    sample.all_succeeded()?;
    let share = sample.expect_share("v2", 50.0)?;
    Ok(format!(
        "all three from what they kept on disk; {} answered, {share:.1} % by v2",
        sample.len()
    ))
}

pub(super) async fn returns(mesh: &mut Mesh<'_>) -> Result<String> {
    mesh.control.start(mesh.place()).await?;
    mesh.split(10).await?;
    let share = wait_for(CAUGHT_UP_WITHIN, "the new split", || async {
        let sample = mesh.call(SAMPLE, &[]).await?;
        sample.all_succeeded()?;
        sample.expect_share("v2", 10.0)
    })
    .await?;
    Ok(format!("a change made afterwards arrived: {share:.1} % reached v2"))
}
