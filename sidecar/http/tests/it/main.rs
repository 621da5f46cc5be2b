//! The whole way of a request, over loopback, between real clients and real servers.

#![allow(clippy::unwrap_used, reason = "a test that finds something missing has failed")]

mod basics;
mod bodies;
mod checks;
mod client;
mod codec;
mod demand;
mod drain;
mod headers;
mod io;
mod logs;
mod named;
mod network;
mod replies;
mod retries;
mod server;
mod streams;
mod tcp;
mod timeouts;
mod tls;
mod tunnels;
mod upgrades;
mod world;
