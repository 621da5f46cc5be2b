//! The network filters.

pub(crate) mod istio_stats;
pub(crate) mod local_ratelimit;
pub(crate) mod metadata_exchange;
pub(crate) mod rbac;
