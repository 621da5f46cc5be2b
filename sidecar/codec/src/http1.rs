//! HTTP/1 (RFC 9112) at either end, without tasks or channels of its own.
//!
//! A connection is polled by whoever serves it ([`ServerConnection`]) or sends over it
//! ([`ClientConnection`]); bodies read from and write to the socket within the same poll. Heads
//! and bodies are parts of the buffer that was read into; nothing idle holds a buffer.

mod buffers;
mod chunks;
mod client;
mod decoder;
mod encoder;
mod framing;
mod head;
mod names;
mod refusal;
mod scan;
mod server;
mod spelling;
mod write_head;
mod writer;

pub use client::ClientConnection;
pub use refusal::Refusal;
pub use server::{RequestBody, ServerConnection, ServerOptions, Service, Waits};
pub use spelling::Spelling;
