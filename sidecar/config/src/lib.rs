//! Bootstrap and protobuf in, compiled runtime objects or rejections out.
//!
//! [`BootstrapConfig`] reads Envoy's bootstrap file; an [`Engine`] holds all resources, static and
//! discovered, compiles them into the runtime model, keeps what has to wait warming, and publishes
//! what is served. Everything is synchronous: bytes and times in, snapshots and rejections out.

mod bootstrap;
mod compile;
mod engine;
mod load;

pub use bootstrap::{
    AdminSettings, AdsSettings, AdsVariant, BootstrapConfig, BootstrapError,
    CertificateAgentSettings, StaticResource,
};
pub use engine::{
    AgentCertificates, Engine, Readiness, SecretReceiver, SecretServer, SharedEngine,
    ShownCertificates,
};
pub use load::ClusterLoads;
pub use weft_xds_proto::forget_descriptors;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
