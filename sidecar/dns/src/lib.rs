//! Answers the application's DNS queries: names of the mesh itself, all others by asking the servers
//! of `resolv.conf`.
//!
//! Queries arrive because `weft-init` redirects those to the name servers of `resolv.conf` to
//! [`PORT`]. Messages are read and written by hickory's parser.

mod answer;
mod cache;
mod forward;
mod resolv_conf;
mod resolver;
mod server;

pub use forward::ForwardError;
pub use resolv_conf::{ResolvConf, ResolvConfError};
pub use resolver::Resolver;
pub use server::{DnsServer, PORT};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
