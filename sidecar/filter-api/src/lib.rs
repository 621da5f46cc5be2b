//! What a filter is: the traits, the flow of control and the context that a filter sees.
//!
//! A filter is compiled once from its configuration and shared by all
//! connections of all workers; what it remembers about one stream it keeps in
//! [`StreamCx::state`]. A filter never blocks: one that has to wait returns
//! [`Flow::Await`].

mod connection;
mod filter;
mod stream;

pub use connection::{ConnectionFacts, PeerFacts, TlsFacts};
pub use filter::{
    Flow, HttpFilter, LocalReply, NetworkFilter, NetworkFlow, OnDemandSettings, RouteFilterConfig,
    Waiting,
};
pub use stream::{Protocol, StreamCx};
