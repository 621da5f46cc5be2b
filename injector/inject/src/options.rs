//! What a pod asks for, validated.

use serde_json::{Map, Value};

use crate::annotations::{self, Annotations, Found, Name};
use crate::metadata::Workload;
use crate::proxy_config::ProxyConfig;
use crate::quantity::is_quantity;
use crate::settings::{NativeSidecars, PortDefaults, Resources, Settings};

mod capture;

/// The variable that sends DNS queries to the proxy; it means the same to `weft-init`.
pub(crate) const DNS_CAPTURE: &str = "ISTIO_META_DNS_CAPTURE";

/// A pod that asks for something that can't be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{subject}: {reason}")]
pub struct Refusal {
    /// The annotation, or the field.
    pub subject: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Refusal {
    pub(crate) fn of(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { subject: subject.into(), reason: reason.into() }
    }
}

/// What the proxy does in the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Stands beside an application.
    Sidecar,
    /// Serves traffic from outside.
    Edge,
}

/// When the pod's readiness asks the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) initial_delay: u32,
    pub(crate) period: u32,
    pub(crate) failure_threshold: u32,
}

/// What a pod asks for.
#[derive(Debug, Clone)]
pub(crate) struct PodOptions {
    /// Whether the pod itself says that it wants to be injected.
    pub(crate) asked: bool,
    pub(crate) namespace: String,
    pub(crate) role: Role,
    /// Templates of the mesh's own, in their order.
    pub(crate) templates: Vec<String>,
    pub(crate) native: bool,
    pub(crate) hold_application: bool,
    intercepts: bool,
    pub(crate) capture: PortDefaults,
    pub(crate) exclude_interfaces: String,
    pub(crate) virtual_interfaces: String,
    pub(crate) image: String,
    pub(crate) resources: Resources,
    pub(crate) control_plane: String,
    /// 0 when the pod's readiness is not to ask the proxy.
    pub(crate) status_port: u16,
    pub(crate) readiness: Readiness,
    pub(crate) rewrite_probes: bool,
    pub(crate) merge_metrics: bool,
    pub(crate) log_level: String,
    pub(crate) cap_net_bind_service: bool,
    pub(crate) user_volumes: Map<String, Value>,
    pub(crate) user_mounts: Map<String, Value>,
    pub(crate) config: ProxyConfig,
    pub(crate) workload: Workload,
    pub(crate) warnings: Vec<String>,
}

impl PodOptions {
    pub(crate) fn read(pod: &Value, namespace: &str, settings: &Settings) -> Result<Self, Refusal> {
        let all = Annotations::of(pod);
        let config = match all.find(annotations::PROXY_CONFIG) {
            Some(found) => ProxyConfig::read(found)?,
            None => ProxyConfig::default(),
        };
        let (role, templates) = templates(all, settings)?;
        let flag = |name, default| all.find(name).map_or(Ok(default), boolean);
        let text = |name, default: &str| {
            all.find(name).map_or_else(|| default.to_owned(), |found| found.value.to_owned())
        };
        let native =
            flag(annotations::NATIVE_SIDECAR, settings.native_sidecars == NativeSidecars::On)?;
        let discovery = config.discovery_address.as_deref().unwrap_or(&settings.control_plane);
        let status_default = config.status_port.unwrap_or(15020);
        let capture = capture::read(all, settings)?;
        let mut options = Self {
            asked: all.find_label_first(annotations::INJECT).is_some(),
            namespace: namespace.to_owned(),
            role,
            templates,
            // An edge is the pod's own container.
            native: native && role == Role::Sidecar,
            hold_application: config.hold_application.unwrap_or(settings.hold_application),
            intercepts: capture::intercepts(all, config.interception_mode.as_deref())?,
            capture,
            exclude_interfaces: text(annotations::EXCLUDE_INTERFACES, ""),
            virtual_interfaces: capture::virtual_interfaces(all),
            image: text(annotations::PROXY_IMAGE, &settings.image),
            resources: resources(all, settings)?,
            control_plane: text(annotations::DISCOVERY_ADDRESS, discovery),
            status_port: number(all, annotations::STATUS_PORT, status_default)?,
            readiness: Readiness {
                initial_delay: number(all, annotations::READINESS_DELAY, 0)?,
                period: number(all, annotations::READINESS_PERIOD, 15)?,
                failure_threshold: number(all, annotations::READINESS_THRESHOLD, 4)?,
            },
            rewrite_probes: flag(annotations::REWRITE_PROBES, settings.rewrite_probes)?,
            merge_metrics: flag(annotations::MERGE_METRICS, settings.merge_metrics)?,
            log_level: text(annotations::LOG_LEVEL, &settings.log_level),
            cap_net_bind_service: flag(annotations::CAP_NET_BIND_SERVICE, false)?,
            user_volumes: object(all, annotations::USER_VOLUME)?,
            user_mounts: object(all, annotations::USER_VOLUME_MOUNT)?,
            workload: Workload::of(pod),
            config,
            warnings: Vec::new(),
        };
        options.warn(all);
        Ok(options)
    }

    /// Whether the pod's traffic goes through the proxy without being asked.
    pub(crate) fn captures(&self) -> bool {
        self.role == Role::Sidecar && self.intercepts
    }

    /// Whether the proxy answers the application's DNS queries. Sent to a port where nobody listens
    /// they would be lost: the same decides for the rules and for the proxy.
    pub(crate) fn answers_dns(&self, settings: &Settings) -> bool {
        let said = self.config.environment.get(DNS_CAPTURE).map(|value| value == "true");
        self.captures() && said.unwrap_or(settings.capture_dns)
    }

    fn warn(&mut self, all: Annotations<'_>) {
        let names = all.without_effect().map(|name| format!("{name} has no effect"));
        self.warnings.extend(names);
        let fields = self.config.without_effect.iter();
        self.warnings
            .extend(fields.map(|field| {
                format!("{}: {field} has no effect", annotations::PROXY_CONFIG.istio)
            }));
        if all.find(annotations::READINESS_PORTS).is_some() {
            self.warnings.push(format!("{} has no effect", annotations::READINESS_PORTS.istio));
        }
    }
}

/// The role, and the mesh's own templates.
fn templates(all: Annotations<'_>, settings: &Settings) -> Result<(Role, Vec<String>), Refusal> {
    let found = all.find(annotations::TEMPLATES);
    let names: Vec<String> = match found {
        Some(found) => found.value.split(',').map(|name| name.trim().to_owned()).collect(),
        None => settings.default_templates.clone(),
    };
    let mut role = Role::Sidecar;
    let mut own = Vec::new();
    for name in names {
        match name.as_str() {
            "sidecar" | "" => {}
            "gateway" => role = Role::Edge,
            _ if settings.templates.contains_key(&name) => own.push(name),
            _ => {
                let subject = found.map_or("default_templates", |found| found.name);
                let mut known = vec!["sidecar", "gateway"];
                known.extend(settings.templates.keys().map(String::as_str));
                let reason = format!("there is no template {name:?}, only {}", known.join(", "));
                return Err(Refusal::of(subject, reason));
            }
        }
    }
    Ok((role, own))
}

fn resources(all: Annotations<'_>, settings: &Settings) -> Result<Resources, Refusal> {
    let one = |name: Name, default: &String| match all.find(name) {
        None => Ok(default.clone()),
        Some(found) if is_quantity(found.value) => Ok(found.value.to_owned()),
        Some(found) => {
            let reason = format!("{:?} is no quantity such as 100m or 128Mi", found.value);
            Err(Refusal::of(found.name, reason))
        }
    };
    let defaults = &settings.resources;
    // As in Istio: a pod that speaks of resources at all has no limits but those it names.
    let speaks = [annotations::PROXY_CPU, annotations::PROXY_MEMORY]
        .into_iter()
        .any(|name| all.find(name).is_some());
    let none = String::new();
    let limit = |default| if speaks { &none } else { default };
    Ok(Resources {
        cpu: one(annotations::PROXY_CPU, &defaults.cpu)?,
        memory: one(annotations::PROXY_MEMORY, &defaults.memory)?,
        cpu_limit: one(annotations::PROXY_CPU_LIMIT, limit(&defaults.cpu_limit))?,
        memory_limit: one(annotations::PROXY_MEMORY_LIMIT, limit(&defaults.memory_limit))?,
    })
}

/// As Go reads a boolean, which Istio does, and the words of YAML.
pub(crate) fn boolean(found: Found<'_>) -> Result<bool, Refusal> {
    match found.value.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "y" | "on" | "enabled" => Ok(true),
        "false" | "f" | "0" | "no" | "n" | "off" | "disabled" => Ok(false),
        _ => {
            let reason = format!("{:?} is neither true nor false", found.value);
            Err(Refusal::of(found.name, reason))
        }
    }
}

fn number<T: std::str::FromStr>(
    all: Annotations<'_>,
    name: Name,
    default: T,
) -> Result<T, Refusal> {
    let Some(found) = all.find(name) else { return Ok(default) };
    let reason = || format!("{:?} is no fitting number from 0 on", found.value);
    found.value.trim().parse().map_err(|_| Refusal::of(found.name, reason()))
}

fn object(all: Annotations<'_>, name: Name) -> Result<Map<String, Value>, Refusal> {
    let Some(found) = all.find(name) else { return Ok(Map::new()) };
    match serde_json::from_str(found.value) {
        Ok(Value::Object(map)) if map.values().all(Value::is_object) => Ok(map),
        Ok(_) => Err(Refusal::of(found.name, "is no JSON object of objects")),
        Err(error) => Err(Refusal::of(found.name, format!("is no JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests;
