//! The sending end: what a stream has subscribed to, what it was sent, what it said to that.

use weft_xds_proto::ResourceType;

use crate::{NodeResources, Subscription};

mod delta;
mod observed;
mod sotw;

pub use delta::DeltaServer;
pub use sotw::SotwServer;

/// One variant of the protocol, seen from the server of one stream. After each call of
/// [`receive`](Self::receive) and for each new snapshot, [`next_response`](Self::next_response)
/// is asked until it gives nothing.
pub trait ServerProtocol: Default + Send + 'static {
    /// The message that comes from the client.
    type Request: Send + 'static;
    /// The message that goes to the client.
    type Response: Send + 'static;

    /// Reads a request.
    fn receive(&mut self, request: Self::Request) -> ServerEvent;

    /// The next message that brings the client nearer to `resources`, in push order (clusters,
    /// endpoints, listeners, routes, secrets); nothing when it is there.
    fn next_response(&mut self, resources: &NodeResources) -> Option<Self::Response>;

    /// A type that the client has in this version without a push of it: nothing that it wants
    /// differs. Each is told once.
    fn up_to_date(&mut self) -> Option<(ResourceType, String)>;

    /// What the client wants of a type, if a request changed that since this was last asked.
    fn changed_subscription(&mut self) -> Option<(ResourceType, Subscription)>;
}

/// What a request meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// It began or changed a subscription, or changed nothing.
    Subscribed(ResourceType),
    /// The client accepted a push.
    Acked {
        /// Type of the push.
        kind: ResourceType,
        /// Its version.
        version: String,
    },
    /// The client refused a push, or a part of it.
    Rejected {
        /// Type of the push.
        kind: ResourceType,
        /// Its version.
        version: String,
        /// Its nonce.
        nonce: String,
        /// Those of its resources that the message names; all when it names none.
        names: Vec<String>,
        /// What the client says.
        message: String,
    },
    /// It answered a push that a later one has overtaken, or one that was never made.
    Stale(ResourceType),
    /// It is about a type that is not served here.
    UnknownType(String),
}
