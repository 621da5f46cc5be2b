//! Resources in, xDS out: a pure translation for each node.
//!
//! [`Translator`] takes the configuration and what the registries know, and gives each node the
//! clusters, endpoints, listeners, routes and secrets that its role needs. Where a field of Envoy
//! has the meaning of one of APISIX it is used, so that a stock Envoy can be the data plane.
//! What has no equivalent is told as a [`Problem`], never dropped in silence.

mod assignment;
mod authorization;
mod chain;
mod checks;
mod cluster;
mod connections;
mod contributions;
mod described;
mod edge;
mod envoy;
mod hosts;
mod inbound;
mod layer;
mod lean;
mod listeners;
mod moved;
mod names;
mod node;
mod outbound;
mod problem;
mod route_tables;
mod routes;
mod served;
mod settings;
mod streams;
mod targets;
mod tls;
mod translator;
mod trial;
mod upstreams;
mod virtual_hosts;

pub use described::{NodeError, answers_dns, discovery_of, workload_of};
pub use moved::Moved;
pub use node::{NodeProfile, ServiceDiscovery};
pub use problem::Problem;
pub use served::MeshHost;
pub use settings::{Inputs, Settings, StreamPort, VirtualAddresses};
pub use translator::Translator;
pub use trial::problems_of;
pub use virtual_hosts::host_asked;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
