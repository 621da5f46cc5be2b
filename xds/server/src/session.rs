//! What the owner of a server provides for each node.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use weft_xds_ads::{NodeResources, ResourceType, Subscription};
use weft_xds_proto::pb::envoy::config::core::v3::Node;

use crate::Peer;

/// Knows the nodes and what each of them is served.
pub trait NodeDirectory: Send + Sync + 'static {
    /// A node opened a stream and said who it is.
    ///
    /// # Errors
    /// The status that ends the stream: `UNAUTHENTICATED`, `PERMISSION_DENIED`,
    /// `INVALID_ARGUMENT` for a node that can't be served, …
    fn connect<'a>(
        &'a self,
        node: &'a Node,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<NodeSession, tonic::Status>>;
}

/// One node's stream, as its owner sees it.
pub struct NodeSession {
    /// What the node is served. When the sender is dropped, the stream ends with `UNAVAILABLE`,
    /// and the node connects anew.
    pub resources: watch::Receiver<Arc<NodeResources>>,
    /// Is told what the node says.
    pub observer: Arc<dyn SessionObserver>,
}

/// Is told what a node says to its resources. Called on the stream's task: must not block.
pub trait SessionObserver: Send + Sync + 'static {
    /// The node subscribed, or changed its subscription.
    fn subscribed(&self, _kind: ResourceType, _subscription: &Subscription) {}

    /// The node accepted a push of `version`, or has it without one: after a reconnect, or when
    /// nothing that it subscribed to differs.
    fn acked(&self, _kind: ResourceType, _version: &str) {}

    /// The node refused a push, or a part of it.
    fn rejected(&self, _refusal: &Refusal) {}

    /// The stream is gone. Nothing is called after this.
    fn closed(&self) {}
}

/// A push that a node did not accept as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Type of the push.
    pub kind: ResourceType,
    /// Its version.
    pub version: String,
    /// The resources that the message names; all of the push when it names none.
    pub names: Vec<String>,
    /// What the node says.
    pub message: String,
}
