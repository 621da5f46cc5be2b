//! The xDS client: transport, reconnection, acknowledgement and the cache on disk.
//!
//! [`spawn`] starts one task that keeps one stream to a server open, aggregated or for secrets alone, hands
//! what it brings to a [`ResourceHandler`], and answers for it. What was accepted outlives the
//! stream, and with a cache also the process: the handler is served from the last good snapshot
//! before the control plane has answered, and catches up by itself.

mod backoff;
pub mod cache;
mod config;
mod driver;
mod handle;
mod journal;
mod load;
mod persist;
mod rpc;
mod transport;

pub use cache::{Cache, CacheError, CachedState, CachedType};
pub use config::{Backoff, ClientConfig, Service, Variant};
pub use driver::{ResourceHandler, spawn};
/// A boxed, sendable future, as [`Transport::connect`] returns it.
pub use futures_util::future::BoxFuture;
pub use handle::{ClientHandle, ClientStatus, TypeStatus};
pub use load::{LoadReports, LoadSource, WantedLoads, report_loads};
pub use transport::{BoxedIo, Io, TcpTransport, Transport, TransportError};
/// What a handler is given and gives back.
pub use weft_xds_ads::{Rejection, Resource, ResourceType, ResourceUpdate, Subscription};
/// Who this node says it is.
pub use weft_xds_proto::pb::envoy::config::core::v3::Node;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
