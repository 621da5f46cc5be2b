//! The codecs against other implementations, and against bytes that no implementation sends.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod bytes;
mod client;
mod server;
mod support;
