//! The resources of the control plane: routes, services, upstreams,
//! certificates, workloads, policies.
//!
//! Stored JSON stays as its author wrote it; this crate gives the typed view
//! of it, with APISIX's defaults applied and the several spellings of one
//! thing (`uri` and `uris`, map and array nodes) brought to one form. It knows
//! no protobuf, no storage and no Kubernetes.

pub mod authorization;
mod endpoint;
mod error;
mod kept;
mod key;
mod lookups;
mod mesh;
pub mod plugins;
mod resources;
mod route;
mod service;
mod ssl;
mod stream_route;
mod timeout;
mod upstream;
mod workload;

pub use authorization::{AuthorizationAction, AuthorizationPolicy, effective_authorization};
pub use endpoint::{
    Discover, DiscoverError, Endpoint, EndpointIdentity, Endpoints, Locality, MeshName,
};
pub use error::DecodeError;
pub use kept::{Kept, KeptFields};
pub use key::{IdError, ResourceId, ResourceKey, ResourceKind};
pub use lookups::Lookups;
pub use mesh::{
    EffectiveMtls, MeshConfig, MtlsMode, MutualTls, OutboundTrafficPolicy, PeerAuthentication,
    WorkloadSelector, effective_mtls,
};
pub use plugins::Plugins;
pub use resources::{Change, Collection, Item, Resources};
pub use route::{Method, Route, Scope};
pub use service::Service;
pub use ssl::{CertificatePair, ClientVerification, Ssl, SslType};
pub use stream_route::StreamRoute;
pub use timeout::Timeout;
pub use upstream::{
    Algorithm, ClientIdentity, Discovery, HashOn, KeepalivePool, Node, PassHost, Scheme, Targets,
    Upstream, UpstreamTls,
};
pub use weft_apisix::{Expr, ExprError, Operator, Vars};
pub use workload::{
    MeshService, NodeStatus, Rejection, Role, TypeStatus, Workload, WorkloadAddress, WorkloadPort,
};

/// Labels of a resource or workload, sorted by key.
pub type Labels = std::collections::BTreeMap<String, String>;
