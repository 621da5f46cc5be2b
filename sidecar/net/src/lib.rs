//! Sockets: listeners, original destination, protocol sniffing, relaying and draining.
//!
//! The way of a connection: [`ListenerSet`] accepts it, the listener filters look
//! at its first bytes, it may be handed to the listener of its original
//! destination, a filter chain is chosen, TLS is terminated, and what comes out
//! is one [`Established`] value for the next step. Everything here belongs to
//! one worker and stays on its thread.

mod balance;
mod bind;
mod buffers;
mod drain;
mod establish;
mod inspect;
mod listeners;
pub mod memory;
mod original_dst;
mod relay;
mod socket_options;
mod splice;
mod stream;
#[cfg(test)]
mod testing;
mod timer;
mod tls_facts;

pub use balance::Share;
pub use drain::{Drain, DrainPlan, DrainWatch, Phase};
pub use establish::{ConnectionGuard, Established};
pub use inspect::{
    ClientHello, HelloError, ProxyHeader, ProxyHeaderError, parse_client_hello, parse_proxy_header,
};
pub use listeners::{ListenerEvent, ListenerOptions, ListenerSet, StopAccepting, Stopped};
pub use relay::{Passed, RelayCounters, RelayEnd, Side, relay};
pub use stream::{DownstreamStream, RawStream};
pub use timer::{Deadline, TICK, Timers};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
