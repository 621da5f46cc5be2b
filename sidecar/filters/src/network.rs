//! The network filters.

pub(crate) mod local_ratelimit;
pub(crate) mod rbac;
