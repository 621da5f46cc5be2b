//! The xDS server: one watch for each node and type, and pushes of what changed.
//!
//! [`AdsService`] speaks both variants of the aggregated discovery service. It asks a
//! [`NodeDirectory`] who a node is and gets a [`NodeSession`]: a watch on the node's resources and
//! an observer of what the node says to them. A snapshot that changes many times while a push is
//! under way is pushed once, and a type whose set is the same pointer is not looked at.

mod peer;
mod service;
mod session;
mod stream;

/// A boxed, sendable future, as [`NodeDirectory::connect`] returns it.
pub use futures_util::future::BoxFuture;
pub use peer::{Peer, PeerIdentity, PeerIo};
pub use service::AdsService;
pub use session::{NodeDirectory, NodeSession, Refusal, SessionObserver};
/// The snapshot types that a directory serves.
pub use weft_xds_ads::{
    NodeResources, ResourceType, Subscription, TypeResources, VersionedResource,
};
/// Who a node says it is.
pub use weft_xds_proto::pb::envoy::config::core::v3::Node;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
