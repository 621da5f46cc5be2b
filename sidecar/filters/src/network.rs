//! The network filters.

pub(crate) mod connection_limit;
pub(crate) mod ext_authz;
pub(crate) mod istio_stats;
pub(crate) mod local_ratelimit;
pub(crate) mod metadata_exchange;
pub(crate) mod rbac;
pub(crate) mod sni_cluster;
