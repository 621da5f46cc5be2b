//! What the proxy reads and writes.

use serde_json::{Value, json};

use crate::options::PodOptions;
use crate::settings::Settings;

/// The volumes that are added to the pod.
pub(crate) fn volumes(options: &PodOptions, settings: &Settings) -> Vec<Value> {
    let mut volumes = vec![
        json!({ "name": "weft-token", "projected": { "sources": [{ "serviceAccountToken": {
            "audience": "istio-ca", "expirationSeconds": 43_200, "path": "weft-token",
        } }] } }),
        json!({ "name": "weft-root", "configMap": { "name": settings.root_config_map } }),
        json!({ "name": "weft-podinfo", "downwardAPI": { "items": [
            { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
            { "path": "annotations", "fieldRef": { "fieldPath": "metadata.annotations" } },
        ] } }),
        // Keys never reach a disk.
        json!({ "name": "weft-state", "emptyDir": { "medium": "Memory", "sizeLimit": "64Mi" } }),
    ];
    volumes.extend(options.user_volumes.iter().map(|(name, volume)| named(name, volume)));
    volumes
}

/// Where the proxy finds them.
pub(crate) fn mounts(options: &PodOptions) -> Vec<Value> {
    let mount = |name: &str, path: &str, read_only: bool| match read_only {
        true => json!({ "name": name, "mountPath": path, "readOnly": true }),
        false => json!({ "name": name, "mountPath": path }),
    };
    let mut mounts = vec![
        mount("weft-token", "/var/run/secrets/weft/token", true),
        mount("weft-root", "/var/run/secrets/weft/root", true),
        mount("weft-podinfo", "/etc/weft/pod", true),
        mount("weft-state", "/var/lib/weft", false),
    ];
    mounts.extend(options.user_mounts.iter().map(|(name, mount)| named(name, mount)));
    mounts
}

fn named(name: &str, rest: &Value) -> Value {
    let mut whole = rest.clone();
    whole["name"] = json!(name);
    whole
}
