//! The receiving end: subscriptions, acknowledgement, and what is held.

use std::{collections::BTreeMap, time::Duration};

use weft_xds_proto::ResourceType;

use crate::{Rejection, Resource, ResourceUpdate, Subscription};

mod delta;
mod holdings;
mod nack;
mod sotw;

pub use delta::DeltaClient;
pub use holdings::{Held, Holdings};
pub use sotw::SotwClient;

/// One variant of the protocol, seen from a client. The order of calls:
/// [`connected`](Self::connected) when a stream is open, then [`next_request`](Self::next_request)
/// until it gives nothing, after every other call as well; [`receive`](Self::receive) and
/// [`complete`](Self::complete) for each response.
pub trait ClientProtocol {
    /// The message that goes to the server.
    type Request: Send + 'static;
    /// The message that comes from the server.
    type Response: Send + 'static;

    /// Says what is wanted from now on; types left out are not wanted. What is held of resources
    /// that are no longer wanted is forgotten.
    fn set_subscriptions(&mut self, wanted: Vec<(ResourceType, Subscription)>);

    /// A stream is open. Everything wanted is asked for again, saying what is held.
    fn connected(&mut self);

    /// The stream is lost. What is held stays.
    fn disconnected(&mut self);

    /// Reads a response. The update in the result is to be applied, and then
    /// [`complete`](Self::complete) called. Nothing comes of responses of types that are unknown
    /// or not wanted.
    fn receive(&mut self, response: Self::Response) -> Option<Received>;

    /// Acknowledges a response, or refuses it naming what was rejected. What was not rejected is
    /// held from now on.
    fn complete(&mut self, pending: Pending, rejected: Vec<Rejection>);

    /// The next message to send, if any.
    fn next_request(&mut self) -> Option<Self::Request>;

    /// Whether a refusal is held back: the server answers it with what was refused, and would do so
    /// without end. To be let go after a while.
    fn holds_back(&self) -> bool {
        false
    }

    /// Sends what is held back.
    fn let_go(&mut self) {}

    /// Forgets resources whose time is over (`ttl`); the server sends them anew, or not at all.
    fn expire(&mut self, kind: ResourceType, names: &[String]);

    /// What is held.
    fn holdings(&self) -> &Holdings;

    /// What is wanted, as it was said last.
    fn wanted(&self) -> &BTreeMap<ResourceType, Subscription>;

    /// Takes over resources that were accepted in an earlier life.
    fn restore(&mut self, kind: ResourceType, version: &str, resources: Vec<Resource>);
}

/// A response that was read.
#[derive(Debug)]
pub struct Received {
    /// What it changes.
    pub update: ResourceUpdate,
    /// How long resources live (`ttl`); `None`: until they are removed. Also of resources that are
    /// held and were not sent again: heartbeats.
    pub lives: Vec<(String, Option<Duration>)>,
    /// To be given back to [`ClientProtocol::complete`].
    pub pending: Pending,
}

/// A response that waits for its acknowledgement.
#[derive(Debug)]
pub struct Pending {
    kind: ResourceType,
    nonce: String,
    version: String,
    added: Vec<Resource>,
    removed: Vec<String>,
    /// What could not even be read.
    malformed: Vec<Rejection>,
    lives: Vec<(String, Option<Duration>)>,
}
