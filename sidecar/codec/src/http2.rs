//! HTTP/2 (RFC 9113): the `h2` crate does frames, header compression, flow control and the states
//! of streams; here are the two ends as a proxy needs them.
//!
//! Neither end has a task for a stream. The server's streams are futures that their connection
//! polls itself; a request of a client is sent and awaited by whoever sends it.

mod client;
mod futures;
mod keepalive;
mod pipe;
mod recv;
mod server;

pub use client::{Client, ClientConnection, Exchange};
pub use keepalive::{Alarm, Pings};
pub use recv::Http2Body;
pub use server::{Reply, Server, ServerOptions};
