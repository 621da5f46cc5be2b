//! The HTTP filters.

pub(crate) mod cors;
pub(crate) mod fault;
pub(crate) mod header_mutation;
pub(crate) mod jwt_authn;
pub(crate) mod local_ratelimit;
pub(crate) mod peer_metadata;
pub(crate) mod rbac;
pub(crate) mod router;
