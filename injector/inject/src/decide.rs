//! Whether a pod is injected.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::annotations::{self, Annotations};
use crate::options::{PodOptions, Refusal, boolean};
use crate::settings::Settings;
use crate::{Decision, PROXY_CONTAINER, PROXY_ID, pod};

/// Namespaces of the cluster itself.
const CLUSTER_NAMESPACES: [&str; 4] =
    ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
/// The annotation that keeps the decision.
pub(crate) const RECORD: &str = "weft.dev/injection";

/// Why a pod is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// Its namespace is the cluster's own, or excluded.
    Namespace(String),
    /// It uses its node's network, whose rules are not its own.
    HostNetwork,
    /// It has a sidecar already.
    Injected,
    /// It has the sidecar of another mesh.
    OtherMesh,
    /// It, or a selector of the mesh, says no.
    Unwanted(String),
    /// Another version of the injector is asked for.
    Revision(String),
    /// A Job's pod ends when all its containers do, and a container beside it never would.
    Job,
    /// A container runs as the proxy's user or group, whose traffic is not intercepted.
    ProxyUser(String),
}

impl SkipReason {
    /// Whether the pod keeps the reason in an annotation: not when it is nobody's business here.
    fn is_recorded(&self) -> bool {
        !matches!(self, Self::Namespace(_) | Self::Injected | Self::OtherMesh | Self::Revision(_))
    }

    /// Whether its owner may have expected otherwise.
    fn is_surprising(&self) -> bool {
        matches!(self, Self::Job | Self::ProxyUser(_))
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "namespace {name} is excluded"),
            Self::HostNetwork => f.write_str("hostNetwork: the node's network is not the pod's"),
            Self::Injected => f.write_str("the pod has a sidecar already"),
            Self::OtherMesh => f.write_str("the pod has the sidecar of another mesh"),
            Self::Unwanted(why) => f.write_str(why),
            Self::Revision(name) => write!(f, "revision {name} is asked for"),
            Self::Job => f.write_str(
                "a Job's pod would never end: use native sidecars, or set weft.dev/inject to true \
                 and POST /quitquitquit to port 15020 at the end",
            ),
            Self::ProxyUser(container) => write!(
                f,
                "container {container} runs as user or group {PROXY_ID}, which is the proxy's: \
                 its traffic would pass the mesh by; give it another"
            ),
        }
    }
}

/// What can be said from the namespace alone: whatever such a pod is, it is let through.
pub(crate) fn foreign(namespace: &str, settings: &Settings) -> Option<SkipReason> {
    let excluded = settings.excluded_namespaces.iter().any(|one| one == namespace);
    let foreign = excluded || CLUSTER_NAMESPACES.contains(&namespace);
    foreign.then(|| SkipReason::Namespace(namespace.to_owned()))
}

/// What can be said from the pod's own words.
pub(crate) fn skip(pod: &Value, settings: &Settings) -> Result<Option<SkipReason>, Refusal> {
    let annotations = Annotations::of(pod);
    if annotations.annotation(annotations::STATUS.weft).is_some() || pod::has_rules(pod) {
        return Ok(Some(SkipReason::Injected));
    }
    if annotations.annotation(annotations::STATUS.istio).is_some() {
        return Ok(Some(SkipReason::OtherMesh));
    }
    if let Some(wanted) = annotations.find_label_first(annotations::REVISION)
        && wanted.value != settings.revision
    {
        return Ok(Some(SkipReason::Revision(wanted.value.to_owned())));
    }
    if let Some(reason) = unwanted(annotations, settings)? {
        return Ok(Some(SkipReason::Unwanted(reason)));
    }
    let host_network = pod["spec"]["hostNetwork"].as_bool().unwrap_or(false);
    Ok(host_network.then_some(SkipReason::HostNetwork))
}

/// What depends on how the pod would be injected.
pub(crate) fn skip_for_options(pod: &Value, options: &PodOptions) -> Option<SkipReason> {
    if !options.captures() {
        return None;
    }
    if let Some(container) = runs_as_proxy(pod) {
        return Some(SkipReason::ProxyUser(container));
    }
    let endless = options.workload.is_job && !options.native && !options.asked;
    endless.then_some(SkipReason::Job)
}

pub(crate) fn skipped(pod: &Value, reason: SkipReason) -> Decision {
    let mut pod = pod.clone();
    if reason.is_recorded() {
        pod::annotate(&mut pod, RECORD, json!(format!("skipped: {reason}")));
    }
    let surprise = reason.is_surprising().then(|| format!("no sidecar: {reason}"));
    Decision { pod, skipped: Some(reason), warnings: surprise.into_iter().collect() }
}

fn unwanted(annotations: Annotations<'_>, settings: &Settings) -> Result<Option<String>, Refusal> {
    if let Some(found) = annotations.find_label_first(annotations::INJECT) {
        let wanted = boolean(found)?;
        return Ok((!wanted).then(|| format!("{} is {:?}", found.name, found.value)));
    }
    let fits = |selector: &BTreeMap<String, String>| {
        let mut labels = selector.iter();
        !selector.is_empty() && labels.all(|(key, value)| annotations.label(key) == Some(value))
    };
    if settings.never_inject.iter().any(fits) {
        return Ok(Some("never_inject chooses the pod".to_owned()));
    }
    let wanted = settings.inject_by_default || settings.always_inject.iter().any(fits);
    Ok((!wanted).then(|| "pods are injected on demand only".to_owned()))
}

/// A container of the application that runs as the proxy's user or group.
fn runs_as_proxy(pod: &Value) -> Option<String> {
    let of = |security: &Value, field: &str| security.get(field).and_then(Value::as_u64);
    let whole = &pod["spec"]["securityContext"];
    let containers = ["containers", "initContainers"].into_iter();
    let mut containers = containers.filter_map(|list| pod["spec"][list].as_array()).flatten();
    let found = containers.find(|container| {
        let own = &container["securityContext"];
        container["name"] != PROXY_CONTAINER
            && ["runAsUser", "runAsGroup"].into_iter().any(|field| {
                of(own, field).or_else(|| of(whole, field)) == Some(u64::from(PROXY_ID))
            })
    })?;
    Some(found["name"].as_str().unwrap_or_default().to_owned())
}
