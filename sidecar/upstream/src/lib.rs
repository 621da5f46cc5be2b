//! Clusters at run time: endpoints, load balancing, resolution and connection pools.
//!
//! Everything here but the resolver and the watch over hosts belongs to one worker: pools, queues,
//! counters of the circuit breakers and the state of load balancing are never
//! shared between threads. A request asks [`Upstreams`] for its cluster,
//! [`WorkerCluster::pick`]s an endpoint and [`WorkerCluster::send`]s itself
//! there.

mod aggregate;
mod balance;
mod body;
mod check;
mod client;
mod cluster;
mod destinations;
mod dial;
mod error;
mod exchange;
mod eyeballs;
mod health;
mod host;
mod limits;
mod outlier;
mod pool;
mod request;
mod resolver;
mod send;
mod stream;
mod task;
mod worker;

pub use body::{RequestBody, UpstreamBody};
pub use cluster::{PickContext, Picked, RetryPermit, WorkerCluster};
pub use error::{Limit, SendError, UpstreamError};
pub use health::{HealthHandle, spawn_health};
pub use resolver::{NameServers, ResolverHandle, spawn_resolver, spawn_resolver_with};
pub use send::UpstreamResponse;
pub use stream::UpstreamStream;
pub use worker::Upstreams;
