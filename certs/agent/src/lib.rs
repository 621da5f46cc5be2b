//! The workload side: keys, signing requests and rotation.
//!
//! An [`Agent`] owns a workload's certificate: it makes the key, has it certified, renews it at half
//! of its lifetime and keeps it over restarts; or it follows files that someone else renews. Either
//! way the current certificate is in a `watch` channel, and the old one stays there until the next
//! is complete.

mod agent;
mod cache;
mod certificates;
mod config;
mod error;
mod fetch;
mod files;
mod schedule;
#[cfg(test)]
mod tests;
mod wire;

pub use agent::Agent;
pub use certificates::WorkloadCertificates;
pub use config::{AgentConfig, Clock, FilesConfig, KeyType, RetryPolicy};
pub use error::{CacheError, FetchError};

/// The README, so that its example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
