//! What is written about an injected pod: whose it is, and what was added.

use serde_json::{Value, json};

use crate::annotations::{self, Annotations};
use crate::decide::RECORD;
use crate::options::{PodOptions, Role};
use crate::settings::Settings;
use crate::{INIT_CONTAINER, PROXY_CONTAINER, pod};

/// Labels have at most so many bytes.
const LABEL_LENGTH: usize = 63;

/// The workload that a pod belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Workload {
    /// Its name.
    pub(crate) name: String,
    /// Its kind, such as `Deployment`.
    pub(crate) kind: String,
    /// Its API version.
    pub(crate) api_version: String,
    /// Whether its pods are to end.
    pub(crate) is_job: bool,
}

impl Workload {
    /// The controller of the pod; for pods of a ReplicaSet or Job, what stands behind it by the
    /// naming of Kubernetes' own controllers.
    pub(crate) fn of(pod: &Value) -> Self {
        let metadata = &pod["metadata"];
        let owners = metadata["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
        let owner = owners.iter().find(|owner| owner["controller"] == true).or(owners.first());
        let Some(owner) = owner else { return Self::unowned(metadata) };
        let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
        let workload = Self {
            name: text("name"),
            is_job: owner["kind"] == "Job",
            kind: text("kind"),
            api_version: text("apiVersion"),
        };
        workload.behind(metadata["labels"]["pod-template-hash"].as_str())
    }

    fn unowned(metadata: &Value) -> Self {
        let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str());
        Self {
            name: name.unwrap_or_default().trim_end_matches('-').to_owned(),
            kind: "Pod".to_owned(),
            api_version: "v1".to_owned(),
            is_job: false,
        }
    }

    fn behind(mut self, hash: Option<&str>) -> Self {
        match self.kind.as_str() {
            "ReplicaSet" => {
                let suffix = hash.map(|hash| format!("-{hash}"));
                if let Some(name) = suffix.and_then(|suffix| self.name.strip_suffix(&suffix)) {
                    (self.name, self.kind) = (name.to_owned(), "Deployment".to_owned());
                }
            }
            "Job" => {
                // A CronJob appends the minute of the run, since 1970.
                let split = self.name.rsplit_once('-').map(|(name, run)| (name.to_owned(), run));
                let is_minute =
                    |run: &str| run.len() >= 8 && run.bytes().all(|byte| byte.is_ascii_digit());
                if let Some((name, run)) = split
                    && is_minute(run)
                {
                    (self.name, self.kind) = (name, "CronJob".to_owned());
                }
            }
            _ => {}
        }
        self
    }

    /// As Istio's agents tell it: `kubernetes://apis/apps/v1/namespaces/shop/deployments/web`.
    pub(crate) fn owner(&self, namespace: &str) -> String {
        let kind = self.kind.to_lowercase();
        let base = if self.api_version.contains('/') { "apis" } else { "api" };
        format!(
            "kubernetes://{base}/{}/namespaces/{namespace}/{kind}s/{}",
            self.api_version, self.name
        )
    }
}

/// Labels and annotations of an injected pod.
pub(crate) fn write(pod: &mut Value, options: &PodOptions, settings: &Settings) {
    let all = Annotations::of(pod);
    let first = |names: &[&str]| names.iter().find_map(|name| all.label(name)).map(str::to_owned);
    let name = first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
        .unwrap_or_else(|| options.workload.name.clone());
    let revision =
        first(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"])
            .unwrap_or_else(|| "latest".to_owned());
    let labels = [
        ("service.istio.io/canonical-name", Some(name)),
        ("service.istio.io/canonical-revision", Some(revision)),
        // What makes Istio's control plane give others endpoints with mTLS for the pod.
        ("security.istio.io/tlsMode", options.captures().then(|| "istio".to_owned())),
        ("topology.istio.io/network", settings.network.clone()),
    ];
    for (name, value) in labels {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let short: String = value.chars().take(LABEL_LENGTH).collect();
            let short = short.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            pod::label_if_absent(pod, name, short);
        }
    }
    default_container(pod);
    pod::annotate(pod, annotations::REVISION.weft, json!(settings.revision));
    pod::annotate(pod, RECORD, json!("injected"));
}

/// The container that `kubectl logs` and `kubectl exec` mean when none is named.
fn default_container(pod: &mut Value) {
    let containers = pod["spec"]["containers"].as_array().map_or(&[][..], Vec::as_slice);
    let first = containers.iter().filter_map(|one| one["name"].as_str());
    let Some(first) = first.into_iter().find(|name| *name != PROXY_CONTAINER) else { return };
    let first = first.to_owned();
    for name in
        ["kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/default-logs-container"]
    {
        pod::annotate_if_absent(pod, name, json!(first));
    }
}

/// The annotation by which an injected pod is known, as Istio writes its own.
pub(crate) fn write_status(
    pod: &mut Value,
    before: &Value,
    options: &PodOptions,
    settings: &Settings,
) {
    let added = |list: &str| -> Vec<Value> {
        let names = |pod: &Value| -> Vec<Value> {
            let all = pod["spec"][list].as_array().map_or(&[][..], Vec::as_slice);
            all.iter().map(|one| one["name"].clone()).collect()
        };
        let known = names(before);
        names(pod).into_iter().filter(|name| !known.contains(name)).collect()
    };
    let rules = options.captures().then_some(INIT_CONTAINER);
    let native = options.native.then_some(PROXY_CONTAINER);
    let classic = (!options.native).then_some(PROXY_CONTAINER);
    let init: Vec<_> = rules.into_iter().chain(native).collect();
    let other: Vec<_> = classic.into_iter().collect();
    let status = json!({
        "initContainers": init,
        "containers": other,
        "volumes": added("volumes"),
        "imagePullSecrets": added("imagePullSecrets"),
        "revision": settings.revision,
    });
    pod::annotate(pod, annotations::STATUS.weft, json!(status.to_string()));
}

/// Prometheus scrapes the proxy, which adds the application's own metrics. What the application
/// said of its own is returned.
pub(crate) fn merge_metrics(pod: &mut Value, options: &PodOptions) -> Option<Value> {
    if !options.merge_metrics || options.status_port == 0 {
        return None;
    }
    let all = Annotations::of(pod);
    let told = |name: &str| all.annotation(name).map(str::to_owned);
    let scrape = told("prometheus.io/scrape");
    if scrape.as_deref() == Some("false") {
        return None;
    }
    let own = scrape.is_some_and(|value| value == "true").then(|| {
        let port = told("prometheus.io/port").unwrap_or_else(|| "80".to_owned());
        let path = told("prometheus.io/path").unwrap_or_else(|| "/metrics".to_owned());
        json!({ "scrape": "true", "port": port, "path": path })
    });
    let port = options.status_port.to_string();
    for (name, value) in [("scrape", "true"), ("port", &port), ("path", "/stats/prometheus")] {
        pod::annotate(pod, &format!("prometheus.io/{name}"), json!(value));
    }
    own
}

/// Whether the edge's pod, or the sidecar's, is meant.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Sidecar => "sidecar",
        Role::Edge => "edge",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(kind: &str, name: &str) -> Workload {
        Workload::of(&json!({"metadata": {
            "labels": {"pod-template-hash": "6d9f"},
            "ownerReferences": [{"kind": kind, "name": name, "apiVersion": "apps/v1", "controller": true}],
        }}))
    }

    #[test]
    fn the_workload_stands_behind_the_owner() {
        let web = owned("ReplicaSet", "web-6d9f");
        assert_eq!((web.kind.as_str(), web.name.as_str()), ("Deployment", "web"));
        assert_eq!(web.owner("shop"), "kubernetes://apis/apps/v1/namespaces/shop/deployments/web");
        assert_eq!(owned("ReplicaSet", "bare").kind, "ReplicaSet");
        let run = owned("Job", "backup-29401234");
        assert_eq!((run.kind.as_str(), run.name.as_str(), run.is_job), ("CronJob", "backup", true));
        assert_eq!(owned("Job", "migrate-2").name, "migrate-2");
        assert_eq!(Workload::of(&json!({"metadata": {"generateName": "x-"}})).name, "x");
    }
}
