//! The control plane: wiring of store, Admin API, registry, translation, xDS and certificates.
//!
//! [`ControlPlane::start`] opens everything and serves; the program around it reads arguments and
//! signals. One task, the `engine`, owns the translation: whatever changes, the configuration,
//! the workloads or the nodes, passes through it, and each connected node's snapshot is replaced
//! if it differs.

mod admin_key;
mod authority;
mod cluster;
mod config;
mod control_plane;
mod declared;
mod directory;
mod engine;
mod identity;
mod listening;
mod nodes;
mod storage;
mod view;

pub use authority::issue_token;
pub use cluster::KubernetesConfig;
pub use config::{
    Config, ConfigError, ConfigProvider, DataPlaneConfig, DeploymentConfig, EtcdConfig,
    EtcdTlsConfig, StreamProxyConfig,
};
pub use control_plane::{ControlPlane, StartError};
pub use declared::{export, import};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
