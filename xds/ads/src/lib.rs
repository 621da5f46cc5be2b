//! The aggregated discovery protocol as state machines without I/O: both variants, both ends.
//!
//! A machine is told what happened (a stream opened, a message came, the wanted resources or the
//! snapshot changed) and asked what to send. It owns no socket, no timer and no task, so that the
//! two ends can be run against each other under every order of events.
//!
//! [`client`] has the receiving end, [`server`] the sending end; [`snapshot`] is what a server
//! serves to one node, [`resource`] what a client hands to its owner.

pub mod client;
pub mod resource;
pub mod server;
pub mod snapshot;

pub use client::{ClientProtocol, Holdings, Pending, Received};
pub use resource::{Rejection, Resource, ResourceUpdate, Subscription};
pub use server::{ServerEvent, ServerProtocol};
pub use snapshot::{NodeResources, OnDemand, TypeResources, VersionedResource};
pub use weft_xds_proto::ResourceType;

#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
