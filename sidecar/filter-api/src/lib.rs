//! What a filter is: the traits, the flow of control and the context that a filter sees.
//!
//! A filter is compiled once from its configuration and shared by all
//! connections of all workers; what it remembers about one stream it keeps in
//! [`StreamCx::state`]. A filter never blocks: one that has to wait returns
//! [`Flow::Await`]. Bodies and requests to other clusters are reached through
//! [`StreamCx::io`], for filters that say that they use them.

mod body;
mod callout;
mod connection;
mod exchange;
mod filter;
mod io;
mod stream;

pub use body::{BodyChange, BodyError, BoxedBody, MessageBody, ReadError};
pub use callout::{CalloutError, CalloutFuture, CalloutOptions, Callouts, OpeningFuture, Trailers};
pub use connection::{ConnectionFacts, KeepSource, PeerFacts, TlsFacts, Tlv};
pub use exchange::{ExchangeStats, PeerExchange, Preface};
pub use filter::{
    Admission, Carried, Flow, HttpFilter, LocalReply, NetworkFilter, NetworkFlow, OnDemandSettings,
    RATE_LIMITS, RouteFilterConfig, RouteRateLimits, TCP_CLUSTER, Waiting,
};
pub use io::StreamIo;
pub use stream::{Protocol, StreamCx};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
