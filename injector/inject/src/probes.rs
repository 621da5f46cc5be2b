//! Probes and lifecycle handlers go through the proxy, which calls the application from inside:
//! a kubelet has no certificate of the mesh.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::PROXY_CONTAINER;

/// A probe that the proxy makes in the kubelet's place; its JSON is the one of Istio's
/// `ISTIO_KUBE_APP_PROBERS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// What is done.
    #[serde(flatten)]
    pub kind: ProbeKind,
    /// Seconds until it counts as failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// What a probe does; each value is Kubernetes' action of that name, ports as numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeKind {
    /// A request over HTTP or HTTPS.
    HttpGet(Value),
    /// A connection.
    TcpSocket(Value),
    /// `grpc.health.v1.Health/Check`.
    Grpc(Value),
}

/// Probes: the field, and the last part of the path.
const PROBES: [(&str, &str); 3] =
    [("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz")];
/// Handlers of the lifecycle, likewise.
const HANDLERS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];

/// Sends the probes of the pod's containers to `port`; what they were is returned by the path that
/// they have there.
pub(crate) fn rewrite(pod: &mut Value, port: u16) -> BTreeMap<String, Probe> {
    let mut taken = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers.iter_mut().filter(|one| one["name"] != PROXY_CONTAINER) {
            let Some(name) = container["name"].as_str().map(str::to_owned) else { continue };
            let ports = container["ports"].clone();
            for (field, last) in PROBES {
                let path = format!("/app-health/{name}/{last}");
                if let Some(probe) = container.get_mut(field) {
                    take(probe, &ports, port, path, &mut taken);
                }
            }
            for (field, last) in HANDLERS {
                let path = format!("/app-lifecycle/{name}/{last}");
                let handlers = container.get_mut("lifecycle");
                if let Some(handler) = handlers.and_then(|all| all.get_mut(field)) {
                    take(handler, &ports, port, path, &mut taken);
                }
            }
        }
    }
    taken
}

fn take(
    handler: &mut Value,
    ports: &Value,
    status_port: u16,
    path: String,
    taken: &mut BTreeMap<String, Probe>,
) {
    let Some(kind) = kind(handler, ports) else { return };
    if let ProbeKind::HttpGet(get) = &kind
        && get["port"] == status_port
    {
        return;
    }
    let timeout_seconds = handler["timeoutSeconds"].as_u64();
    let Some(fields) = handler.as_object_mut() else { return };
    for field in ["tcpSocket", "grpc"] {
        fields.remove(field);
    }
    fields.insert("httpGet".to_owned(), json!({ "path": path, "port": status_port }));
    taken.insert(path, Probe { kind, timeout_seconds });
}

/// The action, its port resolved; none for what stays with the kubelet: commands, hosts that are
/// not the pod's, ports without a number.
fn kind(handler: &Value, ports: &Value) -> Option<ProbeKind> {
    let field =
        ["httpGet", "tcpSocket", "grpc"].into_iter().find(|one| handler.get(one).is_some())?;
    let mut action = handler[field].clone();
    if action.get("host").and_then(Value::as_str).is_some_and(|host| !host.is_empty()) {
        return None;
    }
    let port = resolve(&action["port"], ports)?;
    // What has a port is an object.
    action["port"] = json!(port);
    Some(match field {
        "httpGet" => ProbeKind::HttpGet(action),
        "tcpSocket" => ProbeKind::TcpSocket(action),
        _ => ProbeKind::Grpc(action),
    })
}

fn resolve(port: &Value, ports: &Value) -> Option<u16> {
    if let Some(number) = port.as_u64() {
        return u16::try_from(number).ok();
    }
    let name = port.as_str()?;
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let found = ports.as_array()?.iter().find(|one| one["name"] == name)?;
    u16::try_from(found["containerPort"].as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_taken_and_commands_stay() {
        let mut pod = json!({"spec": {
            "containers": [{
                "name": "app",
                "ports": [{"name": "web", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/r", "port": "web", "scheme": "HTTPS"}, "timeoutSeconds": 2},
                "livenessProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 5},
                "startupProbe": {"grpc": {"port": 9001, "service": "s"}},
                "lifecycle": {"preStop": {"httpGet": {"path": "/bye", "port": 8080}}, "postStart": {"exec": {"command": ["x"]}}},
            }],
            "initContainers": [{"name": "helper", "restartPolicy": "Always", "livenessProbe": {"httpGet": {"port": "none"}}}],
        }});
        let taken = rewrite(&mut pod, 15020);
        let container = &pod["spec"]["containers"][0];
        let at = |path: &str| json!({"path": path, "port": 15020});
        assert_eq!(container["readinessProbe"]["httpGet"], at("/app-health/app/readyz"));
        let live = json!({"httpGet": at("/app-health/app/livez"), "periodSeconds": 5});
        assert_eq!(container["livenessProbe"], live);
        assert_eq!(container["startupProbe"], json!({"httpGet": at("/app-health/app/startupz")}));
        assert_eq!(container["lifecycle"]["preStop"]["httpGet"], at("/app-lifecycle/app/prestopz"));
        assert!(container["lifecycle"]["postStart"].get("exec").is_some());
        let json = serde_json::to_value(&taken).unwrap();
        let expected = json!({
            "/app-health/app/readyz": {"httpGet": {"path": "/r", "port": 8080, "scheme": "HTTPS"}, "timeoutSeconds": 2},
            "/app-health/app/livez": {"tcpSocket": {"port": 9000}},
            "/app-health/app/startupz": {"grpc": {"port": 9001, "service": "s"}},
            "/app-lifecycle/app/prestopz": {"httpGet": {"path": "/bye", "port": 8080}},
        });
        assert_eq!(json, expected);
        let unresolved = json!({"httpGet": {"port": "none"}});
        assert_eq!(pod["spec"]["initContainers"][0]["livenessProbe"], unresolved);
    }
}
