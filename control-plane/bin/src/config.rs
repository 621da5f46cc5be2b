//! The configuration file.

mod deployment;
mod stream_proxy;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use weft_ca::ServiceNames;
use weft_control_model::MeshConfig;
use weft_translate::Settings;

use crate::cluster::KubernetesConfig;

pub use deployment::{
    ConfigProvider, DataPlaneConfig, DeploymentConfig, EtcdConfig, EtcdTlsConfig,
};
pub use stream_proxy::StreamProxyConfig;

/// What the control plane is told. Everything has a default; unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder of the store, the certificate authority and the Admin API's key.
    pub data_dir: PathBuf,
    /// The folder of an authority that is given, such as a mounted Secret: `ca-cert.pem`, `ca-key.pem`,
    /// `root-cert.pem`, `cert-chain.pem`. Several control planes need the same one.
    pub authority_dir: Option<PathBuf>,
    /// Where resources are kept.
    pub deployment: DeploymentConfig,
    /// The Admin API.
    pub admin: AdminConfig,
    /// Where nodes connect.
    pub xds: XdsConfig,
    /// The mesh's settings when the store has none yet; later `/weft/admin/mesh` holds.
    pub mesh: MeshConfig,
    /// The ports on which hosts of the mesh are called over HTTP.
    pub service_ports: Vec<u16>,
    /// Sends sidecars all services of the mesh, not those alone that they call. A workload may say
    /// otherwise: `weft.dev/discovery: on-demand` or `all` in its node's metadata.
    pub whole_mesh: bool,
    /// The access log that proxies write, such as `/dev/stdout`; none by default.
    pub access_log: Option<String>,
    /// The edges.
    pub edge: EdgeConfig,
    /// The memory of workloads.
    pub registry: RegistryConfig,
    /// Programs of the mesh's own whose certificates have DNS names too.
    pub services: Vec<ServiceConfig>,
    /// The cluster that the control plane runs in, if any.
    pub kubernetes: Option<KubernetesConfig>,
}

/// A program whose certificate has DNS names, since who calls it knows nothing of SPIFFE.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Whose: `namespace/service account`.
    pub identity: String,
    /// The names.
    pub names: Vec<String>,
}

/// The Admin API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The keys. Without any, one is made at first start, in `admin-key` of the data folder.
    pub keys: Vec<KeyConfig>,
    /// Whether a key must be shown.
    pub key_required: bool,
    /// Whether browsers of other origins may call it.
    pub cors: bool,
}

/// A key of the Admin API.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// For people.
    #[serde(default)]
    pub name: String,
    /// The secret.
    pub key: String,
    /// What it allows.
    #[serde(default)]
    pub role: KeyRole,
}

impl std::fmt::Debug for KeyConfig {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyConfig").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    /// Everything.
    #[default]
    Admin,
    /// Reading.
    Viewer,
}

/// Where nodes connect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct XdsConfig {
    /// Plaintext, for what runs on the same machine; nodes there are sent no private keys.
    /// `null` switches it off.
    pub plaintext: Option<SocketAddr>,
    /// TLS: xDS and the signing of certificates.
    pub tls: SocketAddr,
    /// DNS names of the server's certificate.
    pub server_names: Vec<String>,
}

/// The edges.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// The port for HTTP.
    pub http_port: u16,
    /// The port for HTTPS.
    pub https_port: u16,
    /// The ports for stream routes, in APISIX's words.
    pub stream_proxy: StreamProxyConfig,
    /// Whose proven edges are sent the certificates' keys: `namespace/service account`, or
    /// `namespace/*`.
    pub identities: Vec<String>,
}

/// The memory of workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Seconds that a workload stays after its node left.
    #[serde(deserialize_with = "seconds")]
    pub grace: Duration,
    /// Seconds that workloads have to connect after the control plane's start.
    #[serde(deserialize_with = "seconds")]
    pub start_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            data_dir: PathBuf::from("weft-data"),
            authority_dir: None,
            deployment: DeploymentConfig::default(),
            admin: AdminConfig::default(),
            xds: XdsConfig::default(),
            mesh: MeshConfig::default(),
            service_ports: settings.service_ports,
            whole_mesh: false,
            access_log: None,
            edge: EdgeConfig::default(),
            registry: RegistryConfig::default(),
            services: vec![ServiceConfig {
                identity: "weft-system/weft-injector".to_owned(),
                names: vec!["weft-injector.weft-system.svc".to_owned()],
            }],
            kubernetes: None,
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 9180));
        Self { listen, keys: Vec::new(), key_required: true, cors: true }
    }
}

impl Default for XdsConfig {
    fn default() -> Self {
        let names = ["weft-control-plane", "weft-control-plane.weft-system.svc", "localhost"];
        Self {
            plaintext: Some(SocketAddr::from(([127, 0, 0, 1], 15010))),
            tls: SocketAddr::from(([0, 0, 0, 0], 15012)),
            server_names: names.map(str::to_owned).to_vec(),
        }
    }
}

impl Default for EdgeConfig {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            http_port: settings.edge_http_port,
            https_port: settings.edge_https_port,
            stream_proxy: StreamProxyConfig::default(),
            identities: vec!["weft-edge/*".to_owned(), "weft-system/*".to_owned()],
        }
    }
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self { grace: Duration::from_secs(5), start_grace: Duration::from_secs(60) }
    }
}

/// A configuration file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("can't read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It isn't what it should be.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// The place and the reason.
        reason: String,
    },
}

impl Config {
    /// Reads a YAML file.
    ///
    /// # Errors
    /// [`ConfigError`] with the file, the place in it and the reason.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|reason| ConfigError::Content { path: path.to_owned(), reason })
    }

    /// Reads YAML; an error has the line, the column and the reason.
    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if let Some(wrong) = config.edge.identities.iter().find(|one| one.split('/').count() != 2) {
            return Err(format!("edge.identities: {wrong:?} isn't namespace/service-account"));
        }
        let whole = |one: &&ServiceConfig| one.identity.split('/').count() != 2;
        if let Some(wrong) = config.services.iter().find(whole) {
            let identity = &wrong.identity;
            return Err(format!("services: {identity:?} isn't namespace/service-account"));
        }
        if let Some(etcd) = &config.deployment.etcd {
            etcd.compile()?;
        }
        if config.service_ports.contains(&0) {
            return Err("service_ports: 0 is no port".to_owned());
        }
        Ok(config)
    }

    /// The DNS names of the mesh's own programs.
    pub(crate) fn service_names(&self) -> ServiceNames {
        let split = |one: &ServiceConfig| {
            let (namespace, account) = one.identity.split_once('/')?;
            Some(((namespace.to_owned(), account.to_owned()), one.names.clone()))
        };
        self.services.iter().filter_map(split).collect()
    }

    /// What of it shapes the translation.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            service_ports: self.service_ports.clone(),
            edge_http_port: self.edge.http_port,
            edge_https_port: self.edge.https_port,
            stream_ports: self.edge.stream_proxy.tcp.clone(),
            access_log: self.access_log.clone(),
        }
    }
}

impl EdgeConfig {
    /// Whether an edge of this identity is sent private keys.
    pub(crate) fn trusts(&self, namespace: &str, service_account: &str) -> bool {
        let allowed = self.identities.iter().filter_map(|one| one.split_once('/'));
        allowed.into_iter().any(|(allowed, account)| {
            allowed == namespace && (account == "*" || account == service_account)
        })
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| de::Error::custom(format!("{seconds} is no number of seconds from 0 on")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_means_the_defaults() {
        assert_eq!(Config::parse("").expect("defaults"), Config::default());
        let config = Config::parse("data_dir: /x\nregistry: {grace: 1.5}").expect("valid");
        assert_eq!(config.registry.grace, Duration::from_millis(1500));
        assert_eq!(config.admin, AdminConfig::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        let error = Config::parse("admin:\n  listne: 1\n").expect_err("unknown");
        assert!(error.contains("listne") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn etcd_is_told_of_in_apisix_s_words() {
        let text = "deployment:\n  etcd:\n    host: [\"https://a:2379\"]\n    prefix: /gw\n    \
                    timeout: 5\n    user: u\n    password: p\n    tls: {verify: false}\n";
        let etcd = Config::parse(text).expect("valid").deployment.etcd.expect("etcd");
        assert!(!format!("{etcd:?}").contains("password"));
        let etcd = etcd.compile().expect("valid");
        assert_eq!((etcd.endpoints[0].as_str(), etcd.prefix.as_str()), ("https://a:2379", "/gw"));
        assert!(etcd.user.is_some() && !etcd.tls.verify);
        for (field, named) in
            [("user: u", "password"), ("tls: {cert: a}", "key"), ("timeout: 0", "timeout")]
        {
            let error =
                Config::parse(&format!("deployment: {{etcd: {{{field}}}}}")).expect_err(field);
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn edges_are_trusted_by_account_or_namespace() {
        let edge =
            EdgeConfig { identities: vec!["a/*".into(), "b/c".into()], ..Default::default() };
        assert!(edge.trusts("a", "x") && edge.trusts("b", "c") && !edge.trusts("b", "x"));
        assert!(Config::parse("edge: {identities: [a]}").is_err());
    }

    #[test]
    fn the_configuration_in_the_manifests_is_readable() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/base/weft.yaml");
        let text = std::fs::read_to_string(file).expect("the manifests");
        let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).expect("YAML");
        let mut maps = objects.iter().filter(|object| object["kind"] == "ConfigMap");
        let map = maps.find(|map| map["metadata"]["name"] == "weft-control-plane");
        let text = map.expect("the ConfigMap")["data"]["config.yaml"].as_str().expect("a text");
        let config = Config::parse(text).expect("valid");
        assert_eq!(config.kubernetes, Some(KubernetesConfig::default()));
        assert_eq!(config.xds.plaintext, None);
        let name = "weft-control-plane.weft-system.svc".to_owned();
        assert!(config.xds.server_names.contains(&name));
    }
}
