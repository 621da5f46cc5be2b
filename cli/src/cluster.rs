//! `weft install`, `upgrade`, `uninstall` and `check`: Weft in a Kubernetes cluster, through the
//! user's own `kubectl`.

mod check;
mod kubectl;
mod manifests;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

pub use check::{Finding, Level};
use kubectl::Kubectl;
use manifests::Manifests;

/// Where everything of the mesh's own is.
const NAMESPACE: &str = "weft-system";

/// How the cluster is reached.
#[derive(Debug, Clone, Args)]
pub struct ClusterOptions {
    /// The program that talks to the cluster
    #[arg(long, default_value = "kubectl")]
    kubectl: PathBuf,
    /// The context of the kubeconfig; the current one if absent
    #[arg(long)]
    context: Option<String>,
}

/// What `weft install` and `weft upgrade` are told.
#[derive(Debug, Clone, Args)]
pub struct InstallOptions {
    #[command(flatten)]
    cluster: ClusterOptions,
    /// The image with all programs
    #[arg(long)]
    image: Option<String>,
    /// With an edge, for traffic from outside
    #[arg(long)]
    edge: bool,
    /// Print what would be applied, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Seconds to wait until everything runs; 0 does not wait
    #[arg(long, default_value_t = 300)]
    timeout: u32,
}

/// What `weft uninstall` is told.
#[derive(Debug, Clone, Args)]
pub struct UninstallOptions {
    #[command(flatten)]
    cluster: ClusterOptions,
    /// Delete the store and the authority's root too: nothing that they certified is believed then
    #[arg(long)]
    purge: bool,
}

/// What `weft check` is told.
#[derive(Debug, Clone, Args)]
pub struct CheckOptions {
    #[command(flatten)]
    cluster: ClusterOptions,
    /// Whether Weft could be installed, instead of whether it works
    #[arg(long)]
    pre: bool,
}

/// `weft install`: checks, applies, waits, checks again.
///
/// # Errors
/// `kubectl` fails; its own words are in the error.
pub fn install(options: &InstallOptions, out: &mut dyn Write) -> Result<ExitCode> {
    let manifests = Manifests::new(options.image.as_deref(), options.edge)?;
    if options.dry_run {
        out.write_all(manifests.yaml().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let kubectl = options.cluster.kubectl();
    if report(&check::before(&kubectl)?, out)? {
        bail!("nothing was installed: see above");
    }
    apply(&kubectl, &manifests, options.timeout, out)
}

/// `weft upgrade`: applies the newer manifests to an installation that is there.
///
/// # Errors
/// As [`install`], and when there is no installation.
pub fn upgrade(options: &InstallOptions, out: &mut dyn Write) -> Result<ExitCode> {
    let manifests = Manifests::new(options.image.as_deref(), options.edge)?;
    if options.dry_run {
        out.write_all(manifests.yaml().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let kubectl = options.cluster.kubectl();
    if kubectl.find(&["statefulset", "weft-control-plane", "--namespace", NAMESPACE])?.is_none() {
        bail!("there is nothing to upgrade: use weft install");
    }
    apply(&kubectl, &manifests, options.timeout, out)
}

fn apply(
    kubectl: &Kubectl,
    manifests: &Manifests,
    timeout: u32,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    let arguments = ["apply", "--server-side", "--field-manager=weft", "--filename=-"];
    out.write_all(kubectl.run(&arguments, Some(manifests.yaml()))?.as_bytes())?;
    if timeout == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let patience = format!("--timeout={timeout}s");
    for workload in manifests.workloads() {
        kubectl.run(&["rollout", "status", workload, "--namespace", NAMESPACE, &patience], None)?;
        writeln!(out, "{workload} runs")?;
    }
    finish(&check::after(kubectl)?, out)
}

/// `weft uninstall`: the webhook first, so that no pod waits for it.
///
/// # Errors
/// As [`install`].
pub fn uninstall(options: &UninstallOptions, out: &mut dyn Write) -> Result<ExitCode> {
    let kubectl = options.cluster.kubectl();
    let gone = ["--ignore-not-found", "--wait=true"];
    let delete = |what: &[&str]| kubectl.run(&[&["delete"], what, &gone].concat(), None);
    let all = "app.kubernetes.io/part-of=weft";
    let mut told = delete(&["mutatingwebhookconfigurations", "--selector", all])?;
    let manifests = Manifests::new(None, true)?;
    let arguments = [&["delete", "--filename=-"], &gone[..]].concat();
    told += &kubectl.run(&arguments, Some(&manifests.without_namespace()))?;
    if options.purge {
        told += &delete(&["configmaps", "--all-namespaces", "--selector", all])?;
        told += &delete(&["namespace", NAMESPACE])?;
    }
    out.write_all(told.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `weft check`: what is well and what is not; exit code 1 if something is not.
///
/// # Errors
/// As [`install`].
pub fn check(options: &CheckOptions, out: &mut dyn Write) -> Result<ExitCode> {
    let kubectl = options.cluster.kubectl();
    let findings = if options.pre { check::before(&kubectl)? } else { check::after(&kubectl)? };
    finish(&findings, out)
}

fn finish(findings: &[Finding], out: &mut dyn Write) -> Result<ExitCode> {
    Ok(if report(findings, out)? { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Tells the findings; whether one is a problem.
fn report(findings: &[Finding], out: &mut dyn Write) -> Result<bool> {
    for Finding { level, text } in findings {
        let word = match level {
            Level::Fine => "ok",
            Level::Warning => "warning",
            Level::Problem => "PROBLEM",
        };
        writeln!(out, "{word:>8}  {text}")?;
    }
    Ok(findings.iter().any(|finding| finding.level == Level::Problem))
}

impl ClusterOptions {
    fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.kubectl.clone(), self.context.clone())
    }
}

#[cfg(test)]
mod tests;
