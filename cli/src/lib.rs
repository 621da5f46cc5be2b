//! The `weft` command: a whole mesh on one machine, and what it is made of.

pub mod bootstrap;
pub mod cluster;
pub mod http;
pub mod inject;
pub mod up;
pub mod workload;
