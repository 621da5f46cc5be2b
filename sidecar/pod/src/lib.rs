//! What a proxy does because it runs in a pod: it makes its bootstrap of the environment that the
//! injector gave it, tells the kubelet of its readiness, and makes the application's probes in the
//! kubelet's place.
//!
//! Nothing here is on the way of a request of the mesh.

mod bootstrap;
mod environment;
mod probe;
mod status;
mod wait;

pub use bootstrap::{Bootstrap, BootstrapError, Role};
pub use environment::{EnvironmentError, PodEnvironment};
pub use probe::{Probe, ProbeError, Prober};
pub use status::{ProxyState, Scrape, StatusServers};
pub use wait::wait_until_ready;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
