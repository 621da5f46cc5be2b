//! What is well with a cluster, and what is not.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use super::NAMESPACE;
use super::kubectl::Kubectl;

/// The oldest Kubernetes that the manifests are valid for.
const OLDEST: u32 = 25;
/// The oldest with native sidecars switched on.
const NATIVE_SIDECARS: u32 = 29;
/// What the installation creates, of what not everybody may create.
const CREATED: [&str; 6] = [
    "namespaces",
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "statefulsets.apps",
    "deployments.apps",
];
/// The ConfigMap of the mesh's roots in each namespace.
const ROOTS: &str = "weft-ca-root-cert";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Fine,
    /// Worth knowing.
    Warning,
    /// In the way.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found, with the cure.
    pub text: String,
}

fn fine(text: impl Into<String>) -> Finding {
    Finding { level: Level::Fine, text: text.into() }
}

fn warning(text: impl Into<String>) -> Finding {
    Finding { level: Level::Warning, text: text.into() }
}

fn problem(text: impl Into<String>) -> Finding {
    Finding { level: Level::Problem, text: text.into() }
}

/// Whether Weft could be installed.
pub(super) fn before(kubectl: &Kubectl) -> Result<Vec<Finding>> {
    let mut findings = vec![version(kubectl)?];
    let denied: Vec<_> = CREATED.into_iter().filter(|kind| !kubectl.may("create", kind)).collect();
    findings.push(match denied.as_slice() {
        [] => fine("you may create what is installed"),
        denied => problem(format!("you may not create {}", denied.join(", "))),
    });
    let webhooks = kubectl.get(&["mutatingwebhookconfigurations"])?;
    let others = items(&webhooks).filter_map(name).filter(|name| name.contains("sidecar-injector"));
    let others: Vec<_> = others.collect();
    if !others.is_empty() {
        findings.push(warning(format!(
            "another mesh injects pods here ({}): label a namespace for one of them only",
            others.join(", ")
        )));
    }
    Ok(findings)
}

fn version(kubectl: &Kubectl) -> Result<Finding> {
    let text = kubectl.run(&["version", "--output=json"], None)?;
    let version: Value = serde_json::from_str(&text)?;
    let part = |name: &str| {
        let text = version["serverVersion"][name].as_str()?;
        text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok()
    };
    let (Some(major), Some(minor)) = (part("major"), part("minor")) else {
        return Ok(problem("the cluster does not tell its version"));
    };
    Ok(match minor {
        _ if major > 1 || minor >= NATIVE_SIDECARS => fine(format!("Kubernetes {major}.{minor}")),
        OLDEST.. => warning(format!(
            "Kubernetes {major}.{minor} has no native sidecars: set native_sidecars to \"off\" in the \
             injector's settings"
        )),
        _ => problem(format!("Kubernetes {major}.{minor} is older than 1.{OLDEST}")),
    })
}

/// Whether Weft works.
pub(super) fn after(kubectl: &Kubectl) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (kind, name) in [("statefulset", "weft-control-plane"), ("deployment", "weft-injector")] {
        findings.push(workload(kubectl, kind, name)?);
    }
    findings.push(webhook(kubectl)?);
    findings.extend(namespaces(kubectl)?);
    Ok(findings)
}

fn workload(kubectl: &Kubectl, kind: &str, name: &str) -> Result<Finding> {
    let Some(object) = kubectl.find(&[kind, name, "--namespace", NAMESPACE])? else {
        return Ok(problem(format!("there is no {kind} {name}: use weft install")));
    };
    let ready = object["status"]["readyReplicas"].as_u64().unwrap_or(0);
    let wanted = object["spec"]["replicas"].as_u64().unwrap_or(1);
    let text = format!("{name}: {ready} of {wanted} ready");
    Ok(match ready {
        0 => problem(format!(
            "{text}: look at kubectl --namespace {NAMESPACE} describe {kind} {name}"
        )),
        _ if ready < wanted => warning(text),
        _ => fine(text),
    })
}

/// The API server believes the webhook's certificate.
fn webhook(kubectl: &Kubectl) -> Result<Finding> {
    let Some(object) = kubectl.find(&["mutatingwebhookconfiguration", "weft-injector"])? else {
        return Ok(problem("there is no webhook weft-injector: use weft install"));
    };
    let bundles = object["webhooks"].as_array().map_or(&[][..], Vec::as_slice);
    let without =
        |webhook: &Value| webhook["clientConfig"]["caBundle"].as_str().is_none_or(str::is_empty);
    Ok(match bundles.iter().any(without) {
        true => problem("the webhook has no caBundle: the control plane sets it, look at its log"),
        false => fine("the webhook has the mesh's roots"),
    })
}

/// Namespaces that are injected have the roots; their pods have sidecars.
fn namespaces(kubectl: &Kubectl) -> Result<Vec<Finding>> {
    let labelled = kubectl.get(&["namespaces", "--selector=weft-injection=enabled"])?;
    let labelled: BTreeSet<_> = items(&labelled).filter_map(name).collect();
    let field = format!("--field-selector=metadata.name={ROOTS}");
    let maps = kubectl.get(&["configmaps", "--all-namespaces", &field])?;
    let with_roots: BTreeSet<_> = items(&maps).filter_map(namespace).collect();
    let mut findings: Vec<_> = labelled
        .difference(&with_roots)
        .map(|name| {
            problem(format!(
                "namespace {name} has no ConfigMap {ROOTS}: look at the control plane's log"
            ))
        })
        .collect();
    let pods = kubectl.get(&["pods", "--all-namespaces"])?;
    let bare = items(&pods).filter(|pod| {
        let annotations = &pod["metadata"]["annotations"];
        namespace(pod).is_some_and(|namespace| labelled.contains(&namespace))
            && annotations["weft.dev/status"].is_null()
            && annotations["weft.dev/injection"].is_null()
    });
    let bare: BTreeSet<_> = bare.filter_map(|pod| Some((namespace(pod)?, name(pod)?))).collect();
    if !bare.is_empty() {
        let names = bare.iter().take(5).map(|(namespace, name)| format!("{namespace}/{name}"));
        findings.push(warning(format!(
            "{} pods are older than their namespace's label, restart them: {}{}",
            bare.len(),
            names.collect::<Vec<_>>().join(", "),
            if bare.len() > 5 { ", …" } else { "" },
        )));
    }
    if findings.is_empty() {
        findings.push(fine(format!("{} namespaces are injected", labelled.len())));
    }
    Ok(findings)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn name(object: &Value) -> Option<String> {
    object["metadata"]["name"].as_str().map(str::to_owned)
}

fn namespace(object: &Value) -> Option<String> {
    object["metadata"]["namespace"].as_str().map(str::to_owned)
}
