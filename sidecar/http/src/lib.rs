//! HTTP/1 and HTTP/2 codecs, the connection manager and the filter loop; and the TCP proxy.
//!
//! [`serve`] takes one established connection and serves it to its end. For
//! HTTP each request passes, from left to right: checks and normalisation
//! (`inbound`), the route (`manager`), the filters (`filters`), then what the
//! route says: a reply made here (`reply`, `redirect`) or the exchange with an
//! upstream (`forward`). What was learned about a request lives in one
//! `stream::Stream` until the response has ended, however it ends.

mod admission;
mod body;
mod callouts;
mod connection;
mod date;
mod demand;
mod ends;
mod export;
mod filters;
mod forward;
mod inbound;
mod io;
mod local_reply;
mod manager;
mod messages;
mod mutate;
mod names;
mod redirect;
mod reply;
mod serve;
mod stream;
mod tcp;
mod tcp_tunnel;
mod timer;
mod trace;
mod tunnel;
mod upgrade;
mod worker;

pub use export::{export, export_rest};
pub use serve::serve;
pub use worker::WorkerCx;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
