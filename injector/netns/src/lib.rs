//! Network namespaces joined by a bridge, for meshes on one machine.
//!
//! A [`Network`] is a switch namespace with a bridge in it and any number of
//! [`Host`] namespaces plugged into that bridge. It serves `weft up` and the
//! tests: each workload gets a network stack of its own, so that interception
//! rules, ports and addresses are those of a pod and touch nothing else.

mod capture;
mod error;
mod host;
mod ip;
mod leftovers;
mod network;
mod privilege;
mod segment;

pub use capture::Capture;
pub use error::Error;
pub use host::Host;
pub use network::{Network, Node, Uplink};
pub use privilege::ensure_privileged;
pub use segment::{Segment, Trace};
