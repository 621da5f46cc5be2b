//! The container that installs the interception rules.

use serde_json::{Value, json};

use crate::options::{DNS_CAPTURE, PodOptions};
use crate::settings::Settings;
use crate::{INIT_CONTAINER, PROXY_ID};

/// Ports of the proxy itself, never intercepted: metrics and readiness.
const OWN_PORTS: &str = "15090,15021";
/// Variables of the pod's ProxyConfig that mean something to `weft-init`.
const VARIABLES: [&str; 5] = [
    "CAPTURE_ALL_DNS",
    "INVALID_DROP",
    "ISTIO_AGENT_DUAL_STACK",
    "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
    "ISTIO_OUTBOUND_OWNER_GROUPS",
];

pub(crate) fn container(options: &PodOptions, settings: &Settings) -> Value {
    let mut container = json!({
        "name": INIT_CONTAINER,
        "image": options.image,
        "command": ["/usr/local/bin/weft-init"],
        "args": arguments(options),
        "resources": super::container::resources(options),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] },
            "privileged": false,
            // iptables locks a file.
            "readOnlyRootFilesystem": false,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
        },
    });
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    let dns = options.answers_dns(settings).then_some((DNS_CAPTURE, "true"));
    let environment: Vec<_> = dns
        .into_iter()
        .chain(all_variables(options))
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    if !environment.is_empty() {
        container["env"] = Value::Array(environment);
    }
    container
}

fn all_variables(options: &PodOptions) -> impl Iterator<Item = (&str, &str)> {
    let given = options.config.environment.iter();
    let given = given.map(|(name, value)| (name.as_str(), value.as_str()));
    given.filter(|(name, _)| VARIABLES.contains(name))
}

fn arguments(options: &PodOptions) -> Vec<String> {
    let capture = &options.capture;
    let mut excluded = OWN_PORTS.to_owned();
    if options.status_port != 0 {
        excluded = format!("{excluded},{}", options.status_port);
    }
    if !capture.exclude_inbound_ports.is_empty() {
        excluded = format!("{excluded},{}", capture.exclude_inbound_ports);
    }
    let proxy = PROXY_ID.to_string();
    let always = [
        ("-p", "15001"),
        ("-z", "15006"),
        ("-u", &proxy),
        ("-m", "REDIRECT"),
        ("-i", &capture.include_outbound_ip_ranges),
        ("-x", &capture.exclude_outbound_ip_ranges),
        ("-b", &capture.include_inbound_ports),
        ("-d", &excluded),
    ];
    let sometimes = [
        ("-q", &capture.include_outbound_ports),
        ("-o", &capture.exclude_outbound_ports),
        ("-k", &options.virtual_interfaces),
        ("-c", &options.exclude_interfaces),
    ];
    let sometimes = sometimes.iter().filter(|(_, value)| !value.is_empty());
    always
        .iter()
        .map(|(flag, value)| (*flag, *value))
        .chain(sometimes.map(|(flag, value)| (*flag, value.as_str())))
        .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()])
        .collect()
}
