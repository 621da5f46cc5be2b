//! Whole resources in, snapshots and rejections out.

mod balancing;
mod bootstrap;
mod collectors;
mod demand;
mod extensions;
mod fields;
mod files;
mod fuzz;
mod hosts;
mod istio;
mod loads;
mod secrets;
mod support;
mod upstreams;
mod warming;
mod weft;
