//! Where resources are kept, in APISIX's words (`deployment` of its `config.yaml`).

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use weft_store::{EtcdTls, EtcdUser};

/// Where resources are kept; the embedded store without any of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeploymentConfig {
    /// `etcd`: kept there.
    pub etcd: Option<EtcdConfig>,
    /// `role_data_plane`: read from a file.
    pub role_data_plane: DataPlaneConfig,
}

/// APISIX's standalone mode (`deployment.role_data_plane`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataPlaneConfig {
    /// Where the resources come from.
    pub config_provider: ConfigProvider,
    /// The file; `apisix.yaml` or `apisix.json` of the current folder without.
    pub config_file: Option<PathBuf>,
}

/// Where the resources come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigProvider {
    /// `deployment.etcd` if it is there, else the embedded store.
    #[default]
    Etcd,
    /// A YAML file that ends in `#END`.
    Yaml,
    /// A JSON file.
    Json,
}

impl DataPlaneConfig {
    /// The file, if the resources come from one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let default = match self.config_provider {
            ConfigProvider::Etcd => return None,
            ConfigProvider::Yaml => "apisix.yaml",
            ConfigProvider::Json => "apisix.json",
        };
        Some(self.config_file.clone().unwrap_or_else(|| PathBuf::from(default)))
    }
}

/// How etcd is reached (`deployment.etcd`).
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EtcdConfig {
    /// The members, as URLs.
    pub host: Vec<String>,
    /// Where APISIX's resources are; Weft's own are in `weft` beside it.
    pub prefix: String,
    /// Seconds that an answer may take.
    pub timeout: u64,
    /// The user, with `password`.
    pub user: Option<String>,
    /// The user's secret.
    pub password: Option<String>,
    /// TLS toward members whose URL begins with `https`.
    pub tls: EtcdTlsConfig,
    /// Keys with which APISIX may have sealed private keys, 16 or 32 bytes each (APISIX's
    /// `apisix.data_encryption.keyring`).
    pub keyring: Vec<String>,
}

/// TLS toward etcd (`deployment.etcd.tls`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EtcdTlsConfig {
    /// The authorities of the members' certificates, PEM; the system's without (APISIX's
    /// `apisix.ssl.ssl_trusted_certificate`).
    pub ca: Option<PathBuf>,
    /// The own certificate, PEM, with `key`.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Whether the members' certificates are verified.
    pub verify: bool,
    /// The name that is asked for and must be in the certificate; the URL's host without.
    pub sni: Option<String>,
}

impl std::fmt::Debug for EtcdConfig {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("host", &self.host)
            .field("prefix", &self.prefix)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Default for EtcdConfig {
    fn default() -> Self {
        let defaults = weft_store::EtcdConfig::default();
        Self {
            host: defaults.endpoints,
            prefix: defaults.prefix,
            timeout: defaults.timeout.as_secs(),
            user: None,
            password: None,
            keyring: defaults.keyring,
            tls: EtcdTlsConfig::default(),
        }
    }
}

impl Default for EtcdTlsConfig {
    fn default() -> Self {
        Self { ca: None, cert: None, key: None, verify: true, sni: None }
    }
}

impl EtcdConfig {
    /// What the store is told.
    ///
    /// # Errors
    /// The field and the reason.
    pub(crate) fn compile(&self) -> Result<weft_store::EtcdConfig, String> {
        let user = match (&self.user, &self.password) {
            (None, None) => None,
            (Some(name), Some(password)) => {
                Some(EtcdUser { name: name.clone(), password: password.clone() })
            }
            _ => return Err("deployment.etcd: user and password belong together".to_owned()),
        };
        let identity = match (&self.tls.cert, &self.tls.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            _ => return Err("deployment.etcd.tls: cert and key belong together".to_owned()),
        };
        if self.timeout == 0 {
            return Err("deployment.etcd.timeout: 0 is no time".to_owned());
        }
        let EtcdTlsConfig { ca, verify, sni, .. } = self.tls.clone();
        Ok(weft_store::EtcdConfig {
            endpoints: self.host.clone(),
            prefix: self.prefix.clone(),
            timeout: Duration::from_secs(self.timeout),
            user,
            tls: EtcdTls { ca, identity, verify, sni },
            keyring: self.keyring.clone(),
        })
    }
}
