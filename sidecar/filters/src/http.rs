//! The HTTP filters.

pub(crate) mod basic_auth;
pub(crate) mod buffer;
pub(crate) mod compressor;
pub(crate) mod cors;
pub(crate) mod csrf;
pub(crate) mod decompressor;
pub(crate) mod ext_authz;
pub(crate) mod fault;
pub(crate) mod grpc_stats;
pub(crate) mod header_mutation;
pub(crate) mod header_to_metadata;
pub(crate) mod health_check;
pub(crate) mod istio_stats;
pub(crate) mod jwt_authn;
pub(crate) mod local_ratelimit;
pub(crate) mod on_demand;
pub(crate) mod peer_metadata;
pub(crate) mod plugins;
pub(crate) mod ratelimit;
pub(crate) mod rbac;
pub(crate) mod router;
pub(crate) mod set_filter_state;
pub(crate) mod set_metadata;
