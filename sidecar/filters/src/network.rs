//! The network filters.

pub(crate) mod rbac;
