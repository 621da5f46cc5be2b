//! Clusters against real servers on loopback.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod aggregate;
mod checks;
mod dns;
mod hosts;
mod http1;
mod http2;
mod limits;
mod outlier;
mod servers;
mod shown;
mod streams;
mod support;
mod tls;
