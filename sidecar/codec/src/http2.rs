//! HTTP/2 (RFC 9113), both ends as a proxy needs them.
//!
//! What is known of a connection is in one place (`state`), which its streams and its own future
//! share on their thread without locks: frames that arrive change it (`receive`, `messages`),
//! whoever holds a direction of a stream (`half`) reads it and writes frames into its buffer, and
//! the connection's future (`link`) moves bytes.
//!
//! Neither end has a task for a stream. The server's streams are futures that their connection
//! polls itself; a request of a client is sent and awaited by whoever sends it.

mod client;
mod frame;
mod futures;
mod half;
mod head;
mod hpack;
mod keepalive;
mod link;
mod messages;
mod pipe;
mod receive;
mod recv;
mod server;
mod state;
mod stream;

pub use client::{Client, ClientConnection, Exchange};
pub use head::Protocol;
pub use keepalive::{Alarm, Pings};
pub use recv::Http2Body;
pub use server::{Reply, Server, ServerOptions};
