//! What the mesh says of all injected pods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the mesh says of all injected pods. Everything has a default; unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The image with `weft-sidecar` and `weft-init`.
    pub image: String,
    /// When nodes fetch the image; the cluster's default if absent.
    pub image_pull_policy: Option<String>,
    /// Secrets with which nodes fetch it.
    pub image_pull_secrets: Vec<String>,
    /// The name of this version of the injector, for upgrades by canary.
    pub revision: String,
    /// Whether pods that say nothing are injected.
    pub inject_by_default: bool,
    /// Namespaces whose pods are never touched, besides the cluster's own.
    pub excluded_namespaces: Vec<String>,
    /// Pods with all labels of one of these are never injected, unless they say otherwise.
    pub never_inject: Vec<BTreeMap<String, String>>,
    /// Pods with all labels of one of these are always injected, unless they say otherwise.
    pub always_inject: Vec<BTreeMap<String, String>>,
    /// The control plane, `host:port`.
    pub control_plane: String,
    /// The name in the control plane's certificate; the host of `control_plane` if absent.
    pub server_name: Option<String>,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// The cluster's name in the mesh.
    pub cluster: String,
    /// The network that pods are in; none if all reach each other.
    pub network: Option<String>,
    /// The mesh's name.
    pub mesh_id: Option<String>,
    /// The ConfigMap of each namespace that holds the mesh's roots in `root-cert.pem`.
    pub root_config_map: String,
    /// Whether the sidecar is an init container that keeps running.
    pub native_sidecars: NativeSidecars,
    /// Without native sidecars: applications start after the sidecar is ready.
    pub hold_application: bool,
    /// Whether probes of applications go through the sidecar.
    pub rewrite_probes: bool,
    /// Whether the sidecar serves the application's metrics with its own.
    pub merge_metrics: bool,
    /// What is intercepted unless a pod says otherwise.
    pub capture: PortDefaults,
    /// Whether the sidecar answers DNS queries: names of the mesh itself, others by asking the
    /// servers of the pod's `resolv.conf`.
    pub capture_dns: bool,
    /// Worker threads of the sidecar; 0 takes as many as its CPU limit has cores.
    pub concurrency: u32,
    /// The sidecar's log level.
    pub log_level: String,
    /// Seconds that connections have to end when a pod ends.
    pub drain_seconds: u32,
    /// The sidecar's resources.
    pub resources: Resources,
    /// Further environment of the sidecar.
    pub environment: BTreeMap<String, String>,
    /// Further templates by name: parts of pods that are merged into the pod.
    pub templates: BTreeMap<String, Value>,
    /// The templates of pods that name none.
    pub default_templates: Vec<String>,
}

/// Whether the sidecar is an init container that keeps running (Kubernetes 1.29 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NativeSidecars {
    /// Yes.
    #[default]
    On,
    /// No: it is a container beside the application's.
    Off,
}

/// What is intercepted unless a pod says otherwise; the words are those of the annotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortDefaults {
    /// Outbound ranges that are intercepted, or `*`.
    pub include_outbound_ip_ranges: String,
    /// Outbound ranges that are left alone.
    pub exclude_outbound_ip_ranges: String,
    /// Outbound ports that are intercepted whatever the range.
    pub include_outbound_ports: String,
    /// Outbound ports that are left alone.
    pub exclude_outbound_ports: String,
    /// Inbound ports that are intercepted, or `*`.
    pub include_inbound_ports: String,
    /// Inbound ports that are left alone.
    pub exclude_inbound_ports: String,
}

/// Kubernetes quantities, such as `100m` and `128Mi`; empty for none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// CPU that is set aside.
    pub cpu: String,
    /// CPU at most.
    pub cpu_limit: String,
    /// Memory that is set aside.
    pub memory: String,
    /// Memory at most.
    pub memory_limit: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: "ghcr.io/weft-mesh/weft:0.1.0".to_owned(),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            revision: "default".to_owned(),
            inject_by_default: true,
            excluded_namespaces: Vec::new(),
            never_inject: Vec::new(),
            always_inject: Vec::new(),
            control_plane: "weft-control-plane.weft-system.svc:15012".to_owned(),
            server_name: None,
            trust_domain: "cluster.local".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            cluster: "Kubernetes".to_owned(),
            network: None,
            mesh_id: None,
            root_config_map: "weft-ca-root-cert".to_owned(),
            native_sidecars: NativeSidecars::On,
            hold_application: true,
            rewrite_probes: true,
            merge_metrics: true,
            capture: PortDefaults::default(),
            capture_dns: false,
            concurrency: 2,
            log_level: "info".to_owned(),
            drain_seconds: 5,
            resources: Resources::default(),
            environment: BTreeMap::new(),
            templates: BTreeMap::new(),
            default_templates: vec!["sidecar".to_owned()],
        }
    }
}

impl Default for PortDefaults {
    fn default() -> Self {
        Self {
            include_outbound_ip_ranges: "*".to_owned(),
            exclude_outbound_ip_ranges: String::new(),
            include_outbound_ports: String::new(),
            exclude_outbound_ports: String::new(),
            include_inbound_ports: "*".to_owned(),
            exclude_inbound_ports: String::new(),
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu: "10m".to_owned(),
            cpu_limit: "2".to_owned(),
            memory: "32Mi".to_owned(),
            memory_limit: "512Mi".to_owned(),
        }
    }
}

/// Settings that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl Settings {
    /// Reads YAML; nothing means the defaults.
    ///
    /// # Errors
    /// [`SettingsError`] with the place, or the field and the reason.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let settings: Self =
            serde_saphyr::from_str(text).map_err(|error| SettingsError(error.to_string()))?;
        let bad = |field: &str, reason: &str| Err(SettingsError(format!("{field}: {reason}")));
        let port = settings.control_plane.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return bad("control_plane", "is no host:port");
        }
        for (name, template) in &settings.templates {
            if matches!(name.as_str(), "sidecar" | "gateway") {
                return bad("templates", &format!("{name:?} is a template of Weft's own"));
            }
            if !template.is_object() {
                return bad("templates", &format!("{name:?} is no part of a pod"));
            }
        }
        Ok(settings)
    }

    /// The name in the control plane's certificate.
    pub(crate) fn server_name(&self) -> &str {
        let host = || self.control_plane.rsplit_once(':').map_or("", |(host, _)| host);
        self.server_name.as_deref().unwrap_or_else(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_means_the_defaults_and_what_is_unknown_is_named() {
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
        let error = Settings::parse("imagge: x").unwrap_err().to_string();
        assert!(error.contains("imagge"), "{error}");
        let error = Settings::parse("control_plane: x").unwrap_err().to_string();
        assert!(error.contains("host:port"), "{error}");
        let error = Settings::parse("templates: {sidecar: {}}").unwrap_err().to_string();
        assert!(error.contains("sidecar"), "{error}");
    }

    #[test]
    fn settings_are_written_as_they_are_read() {
        let text = serde_saphyr::to_string(&Settings::default()).unwrap();
        assert_eq!(Settings::parse(&text).unwrap(), Settings::default());
    }
}
