//! The proxy's container.

use serde_json::{Map, Value, json};

use crate::metadata::role_name;
use crate::options::{DNS_CAPTURE, PodOptions, Role};
use crate::quantity::whole_cpus;
use crate::settings::Settings;
use crate::{PROXY_CONTAINER, PROXY_ID, volumes};

/// What the pod had before that the proxy has to know.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The application's probes, as JSON.
    pub(crate) probes: Option<String>,
    /// Where the application's metrics are, as JSON.
    pub(crate) scrape: Option<String>,
    /// The ports of all containers, as JSON.
    pub(crate) ports: String,
    /// The names of all containers.
    pub(crate) containers: String,
}

pub(crate) fn container(options: &PodOptions, settings: &Settings, told: &Told) -> Value {
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": options.image,
        "command": ["/usr/local/bin/weft-sidecar"],
        "args": arguments(options, settings),
        "ports": [{ "containerPort": 15090, "name": "weft-metrics", "protocol": "TCP" }],
        "env": environment(options, settings, told),
        "resources": resources(options),
        "securityContext": security(options),
        "volumeMounts": volumes::mounts(options),
    });
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if options.status_port != 0 {
        readiness(&mut container, options);
    }
    if options.native {
        container["restartPolicy"] = json!("Always");
    } else if options.hold_application && options.role == Role::Sidecar {
        let wait = ["/usr/local/bin/weft-sidecar", "--mode", "wait"];
        container["lifecycle"] = json!({ "postStart": { "exec": { "command": wait } } });
    }
    container
}

fn readiness(container: &mut Value, options: &PodOptions) {
    let get = json!({ "path": "/healthz/ready", "port": 15021 });
    container["readinessProbe"] = json!({
        "httpGet": get,
        "initialDelaySeconds": options.readiness.initial_delay,
        "periodSeconds": options.readiness.period,
        "failureThreshold": options.readiness.failure_threshold,
        "timeoutSeconds": 3,
    });
    container["startupProbe"] = json!({
        "httpGet": get,
        "periodSeconds": 1,
        "failureThreshold": 600,
        "timeoutSeconds": 3,
    });
}

fn arguments(options: &PodOptions, settings: &Settings) -> Vec<String> {
    let drain = options.config.drain_seconds.unwrap_or(settings.drain_seconds);
    let mut arguments = vec!["--pod".to_owned()];
    let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    flag("--log-level", options.log_level.clone());
    flag("--drain-time-s", drain.to_string());
    let concurrency = match options.config.concurrency.unwrap_or(settings.concurrency) {
        0 => whole_cpus(&options.resources.cpu_limit),
        workers => Some(workers),
    };
    if let Some(workers) = concurrency {
        flag("--concurrency", workers.to_string());
    }
    arguments
}

fn environment(options: &PodOptions, settings: &Settings, told: &Told) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mut all = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IPS", "status.podIPs"),
        field("HOST_IP", "status.hostIP"),
        field("NODE_NAME", "spec.nodeName"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
    ];
    let mode = if options.captures() { "REDIRECT" } else { "NONE" };
    let server_name = match options.control_plane == settings.control_plane {
        true => settings.server_name(),
        false => options.control_plane.rsplit_once(':').map_or("", |(host, _)| host),
    };
    let status_port = options.status_port.to_string();
    let owner = options.workload.owner(&options.namespace);
    let values = [
        ("WEFT_CONTROL_PLANE", Some(options.control_plane.as_str())),
        ("WEFT_SERVER_NAME", Some(server_name)),
        ("WEFT_TRUST_DOMAIN", Some(&settings.trust_domain)),
        ("WEFT_CLUSTER_DOMAIN", Some(&settings.cluster_domain)),
        ("WEFT_ROLE", Some(role_name(options.role))),
        ("WEFT_STATUS_PORT", Some(&status_port)),
        ("WEFT_APP_PROBES", told.probes.as_deref()),
        ("WEFT_METRICS_SCRAPE", told.scrape.as_deref()),
        ("WEFT_META_POD_PORTS", Some(&told.ports)),
        ("WEFT_META_APP_CONTAINERS", Some(&told.containers)),
        ("WEFT_META_CLUSTER_ID", Some(&settings.cluster)),
        ("WEFT_META_INTERCEPTION_MODE", Some(mode)),
        ("WEFT_META_NETWORK", settings.network.as_deref()),
        ("WEFT_META_MESH_ID", settings.mesh_id.as_deref()),
        ("WEFT_META_WORKLOAD_NAME", Some(&options.workload.name)),
        ("WEFT_META_OWNER", Some(&owner)),
    ];
    let values = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let mut given = Map::new();
    let further = settings.environment.iter().chain(&options.config.environment);
    given.extend(further.map(|(name, value)| (name.clone(), json!(value))));
    given.remove(DNS_CAPTURE);
    if options.answers_dns(settings) {
        given.insert(DNS_CAPTURE.to_owned(), json!("true"));
    }
    all.extend(
        values
            .filter(|(name, _)| !given.contains_key(*name))
            .map(|(name, value)| json!({ "name": name, "value": value })),
    );
    all.extend(given.iter().map(|(name, value)| json!({ "name": name, "value": value })));
    all
}

pub(crate) fn resources(options: &PodOptions) -> Value {
    let wanted = &options.resources;
    let part = |cpu: &str, memory: &str| -> Map<String, Value> {
        let both = [("cpu", cpu), ("memory", memory)].into_iter();
        both.filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect()
    };
    let requests = part(&wanted.cpu, &wanted.memory);
    let limits = part(&wanted.cpu_limit, &wanted.memory_limit);
    let mut resources = Map::new();
    for (name, part) in [("limits", limits), ("requests", requests)] {
        if !part.is_empty() {
            resources.insert(name.to_owned(), Value::Object(part));
        }
    }
    Value::Object(resources)
}

fn security(options: &PodOptions) -> Value {
    let mut capabilities = json!({ "drop": ["ALL"] });
    if options.cap_net_bind_service {
        capabilities["add"] = json!(["NET_BIND_SERVICE"]);
    }
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": capabilities,
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": PROXY_ID,
        "runAsNonRoot": true,
        "runAsUser": PROXY_ID,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}
