//! The bootstrap file: what the proxy knows before it has asked anybody.

mod ads;
mod agent;
mod error;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use weft_filters::config::{FieldError, Within};
use weft_model::ListenAddress;
use weft_telemetry::AccessLog;
use weft_xds_proto::pb::envoy::config::bootstrap::v3::{Admin, Bootstrap};
use weft_xds_proto::pb::envoy::config::core::v3::Node;
use weft_xds_proto::{Any, Message, Name, ResourceType, YamlError, from_yaml, pack};

use crate::compile;

use ads::Discovered;

pub use ads::{AdsSettings, AdsVariant};
pub use agent::CertificateAgentSettings;
pub use error::BootstrapError;

/// How this software calls itself to control planes.
const USER_AGENT: &str = "weft-sidecar";
/// How long what was fetched on demand is kept without use, unless something else is said.
const ON_DEMAND_IDLE: Duration = Duration::from_secs(3600);

/// What a bootstrap file says.
#[derive(Clone, Debug)]
pub struct BootstrapConfig {
    /// The file it was read from; empty for text.
    pub file: PathBuf,
    /// `node`
    pub node: Node,
    /// `admin`, where it has an address.
    pub admin: Option<AdminSettings>,
    /// `static_resources`, in the order secrets, clusters, listeners.
    pub resources: Vec<StaticResource>,
    /// `dynamic_resources.ads_config`
    pub ads: Option<AdsSettings>,
    /// `cluster_manager.load_stats_config`: who is told of the load of clusters.
    pub load_stats: Option<AdsSettings>,
    /// Whether `dynamic_resources.cds_config` asks for all clusters of the aggregated stream.
    pub discover_clusters: bool,
    /// Whether `dynamic_resources.lds_config` asks for all listeners of the aggregated stream.
    pub discover_listeners: bool,
    /// The file that `dynamic_resources.cds_config` names.
    pub cluster_file: Option<PathBuf>,
    /// The file that `dynamic_resources.lds_config` names.
    pub listener_file: Option<PathBuf>,
    /// The certificate agent's settings (`bootstrap_extensions`).
    pub agent: Option<CertificateAgentSettings>,
    /// `cluster_manager.local_cluster_name`
    pub local_cluster: Option<String>,
    /// How long what was fetched on demand is kept without use; no field of Envoy's.
    pub on_demand_idle: Duration,
    /// The message itself, for `/config_dump`.
    pub(crate) message: Bootstrap,
}

/// `admin`
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// `address`
    pub address: ListenAddress,
    /// `access_log` or `access_log_path`
    pub access_logs: Vec<Arc<AccessLog>>,
}

/// A resource of `static_resources`.
#[derive(Clone, Debug)]
pub struct StaticResource {
    /// Its place in the file, e.g. `static_resources.listeners[0]`.
    pub path: String,
    /// Its type.
    pub resource_type: ResourceType,
    /// Its name; a listener without any has its address.
    pub name: String,
    /// The message.
    pub body: Arc<Any>,
}

impl BootstrapConfig {
    /// Reads a bootstrap file, YAML or JSON.
    ///
    /// # Errors
    /// The file can't be read, is malformed, or has a field that can't be accepted.
    pub fn read(file: &Path) -> Result<Self, BootstrapError> {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| BootstrapError::unreadable(file, &error))?;
        Self::parse(file, &text)
    }

    /// Reads the text of a bootstrap file; `file` is its name in errors.
    ///
    /// # Errors
    /// The text is malformed, or has a field that can't be accepted.
    pub fn parse(file: &Path, text: &str) -> Result<Self, BootstrapError> {
        let message: Bootstrap = from_yaml(text).map_err(|error| match error {
            YamlError::Syntax(text) => BootstrapError::new(file, FieldError::new(text)),
            YamlError::Mapping(error) => {
                BootstrapError::new(file, FieldError::at(error.path, error.reason))
            }
        })?;
        Self::compile(file, message).map_err(|error| BootstrapError::new(file, error))
    }

    /// The names of the clusters of `static_resources`.
    pub(crate) fn static_clusters(&self) -> impl Iterator<Item = &str> {
        let clusters =
            self.resources.iter().filter(|one| one.resource_type == ResourceType::Cluster);
        clusters.map(|one| one.name.as_str())
    }

    fn compile(file: &Path, message: Bootstrap) -> Result<Self, FieldError> {
        refuse(&message)?;
        let mut node = message.node.clone().unwrap_or_default();
        if node.user_agent_name.is_empty() {
            USER_AGENT.clone_into(&mut node.user_agent_name);
        }
        let dynamic = message.dynamic_resources.clone().unwrap_or_default();
        let ads = dynamic.ads_config.as_ref().map(ads::ads).transpose();
        let ads = ads.within("dynamic_resources.ads_config")?;
        if ads.is_some() && node.id.is_empty() {
            let reason = "is required: a control plane knows this proxy by it";
            return Err(FieldError::at("node.id", reason));
        }
        let named = ads.as_ref();
        let manager = message.cluster_manager.as_ref();
        let load_stats = manager.and_then(|manager| manager.load_stats_config.as_ref());
        let load_stats = load_stats.map(ads::ads).transpose();
        let load_stats = load_stats.within("cluster_manager.load_stats_config")?;
        let discover = |config: Option<_>, field: &str| {
            config.map(|config| ads::discovered(config, named)).transpose().within(field)
        };
        let clusters = discover(dynamic.cds_config.as_ref(), "dynamic_resources.cds_config")?;
        let listeners = discover(dynamic.lds_config.as_ref(), "dynamic_resources.lds_config")?;
        Ok(Self {
            file: file.to_owned(),
            admin: message.admin.as_ref().map(admin).transpose().within("admin")?.flatten(),
            resources: resources(&message)?,
            ads,
            load_stats,
            discover_clusters: matches!(clusters, Some(Discovered::Stream)),
            discover_listeners: matches!(listeners, Some(Discovered::Stream)),
            cluster_file: file_of(clusters),
            listener_file: file_of(listeners),
            agent: agent::agent(&message.bootstrap_extensions)?,
            local_cluster: message
                .cluster_manager
                .as_ref()
                .map(|manager| manager.local_cluster_name.clone())
                .filter(|name| !name.is_empty()),
            on_demand_idle: ON_DEMAND_IDLE,
            node,
            message,
        })
    }
}

fn file_of(discovered: Option<Discovered>) -> Option<PathBuf> {
    match discovered {
        Some(Discovered::File(path)) => Some(path),
        Some(Discovered::Stream) | None => None,
    }
}

fn refuse(message: &Bootstrap) -> Result<(), FieldError> {
    let manager = message.cluster_manager.as_ref();
    let bind = manager.is_some_and(|manager| manager.upstream_bind_config.is_some());
    let refused = [
        (bind, "cluster_manager.upstream_bind_config"),
        (message.default_config_source.is_some(), "default_config_source"),
        (message.xds_delegate_extension.is_some(), "xds_delegate_extension"),
    ];
    match refused.iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(FieldError::unsupported(field)),
        None => Ok(()),
    }
}

#[expect(deprecated, reason = "older bootstrap files still have access_log_path")]
fn admin(config: &Admin) -> Result<Option<AdminSettings>, FieldError> {
    if config.address.is_none() {
        return Ok(None);
    }
    let address = compile::listen_address(config.address.as_ref()).within("address")?;
    let mut access_logs = compile::access_logs(None, &config.access_log, "access_log")?;
    if !config.access_log_path.is_empty() {
        access_logs.push(compile::file_log(&config.access_log_path).within("access_log_path")?);
    }
    Ok(Some(AdminSettings { address, access_logs }))
}

fn resources(message: &Bootstrap) -> Result<Vec<StaticResource>, FieldError> {
    let Some(resources) = &message.static_resources else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for (index, secret) in resources.secrets.iter().enumerate() {
        all.push(fixed(ResourceType::Secret, "secrets", index, secret.name.clone(), secret)?);
    }
    for (index, cluster) in resources.clusters.iter().enumerate() {
        all.push(fixed(ResourceType::Cluster, "clusters", index, cluster.name.clone(), cluster)?);
    }
    for (index, listener) in resources.listeners.iter().enumerate() {
        let name = compile::listener_name(listener);
        all.push(fixed(ResourceType::Listener, "listeners", index, name, listener)?);
    }
    Ok(all)
}

fn fixed<M: Message + Name>(
    resource_type: ResourceType,
    field: &str,
    index: usize,
    name: String,
    message: &M,
) -> Result<StaticResource, FieldError> {
    let path = format!("static_resources.{field}[{index}]");
    if name.is_empty() {
        return Err(FieldError::missing("name").within(&path));
    }
    Ok(StaticResource { path, resource_type, name, body: Arc::new(pack(message)) })
}
