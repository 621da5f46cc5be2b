//! The whole way of a request, over loopback, between real clients and real servers.

#![allow(clippy::unwrap_used, reason = "a test that finds something missing has failed")]

mod basics;
mod client;
mod server;
mod world;
