//! The filters, one folder each, and their registry.
//!
//! A filter is found by the type of its configuration. Its folder holds the filter itself, which
//! knows no protobuf, and `config.rs`, which decodes and checks its message.

mod authorization;
mod bucket;
mod cluster_counters;
mod coding;
mod conditions;
pub mod config;
mod grpc;
mod http;
mod istio;
mod network;
mod rate_limits;
mod rbac;
mod values;
mod view;

mod registry;

pub use rate_limits::config::compile_rate_limits;
pub use registry::{
    FilterCx, HttpFilterKind, NetworkFilterKind, compile_http, compile_network, compile_per_route,
    compile_upstream, is_metadata_exchange, message_name,
};

#[cfg(test)]
mod testing;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
