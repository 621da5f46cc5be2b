//! One stream: requests in, responses out.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use weft_xds_ads::{NodeResources, ServerEvent, ServerProtocol};
use weft_xds_proto::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
};

use crate::{NodeDirectory, NodeSession, Peer, Refusal, SessionObserver};

/// How long a new stream may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(30);

/// The first message of a stream carries the node.
pub(crate) trait Introduction {
    fn take_node(&mut self) -> Option<Node>;
}

impl Introduction for DeltaDiscoveryRequest {
    fn take_node(&mut self) -> Option<Node> {
        self.node.take()
    }
}

impl Introduction for DiscoveryRequest {
    fn take_node(&mut self) -> Option<Node> {
        self.node.take()
    }
}

/// The responses of one stream. Each is made when the connection has room for it, so that changes
/// that come faster than the node reads are told once; nothing runs besides the connection.
pub(crate) fn responses<P>(
    directory: Arc<dyn NodeDirectory>,
    stop: CancellationToken,
    peer: Peer,
    requests: Streaming<P::Request>,
) -> impl Stream<Item = Result<P::Response, Status>> + Send
where
    P: ServerProtocol,
    P::Request: Introduction,
{
    let opening = Phase::<P>::Opening(Box::new(Opening { directory, stop, peer, requests }));
    stream::unfold(opening, |phase| async move {
        let result = match phase {
            Phase::Opening(opening) => match opening.open().await {
                Ok(Some(mut open)) => open.next().await.map(|next| next.map(|next| (next, open))),
                Ok(None) => Ok(None),
                Err(status) => Err(status),
            },
            Phase::Open(mut open) => open.next().await.map(|next| next.map(|next| (next, open))),
            Phase::Closed => Ok(None),
        };
        match result {
            Ok(Some((response, open))) => Some((Ok(response), Phase::Open(open))),
            Ok(None) => None,
            Err(status) => Some((Err(status), Phase::Closed)),
        }
    })
}

enum Phase<P: ServerProtocol> {
    Opening(Box<Opening<P>>),
    Open(Box<Open<P>>),
    Closed,
}

/// A stream that has not said who it is.
struct Opening<P: ServerProtocol> {
    directory: Arc<dyn NodeDirectory>,
    stop: CancellationToken,
    peer: Peer,
    requests: Streaming<P::Request>,
}

/// A stream whose node is known.
struct Open<P: ServerProtocol> {
    requests: Streaming<P::Request>,
    resources: watch::Receiver<Arc<NodeResources>>,
    observer: Observer,
    machine: P,
    stop: CancellationToken,
}

/// Tells the observer when the stream is dropped, for whatever reason.
struct Observer(Arc<dyn SessionObserver>);

impl Drop for Observer {
    fn drop(&mut self) {
        self.0.closed();
    }
}

impl<P> Opening<P>
where
    P: ServerProtocol,
    P::Request: Introduction,
{
    /// Waits for the first request and asks the directory for the node; nothing when the client
    /// left without a word.
    async fn open(self) -> Result<Option<Box<Open<P>>>, Status> {
        let Self { directory, stop, peer, mut requests } = self;
        let first = timeout(INTRODUCTION, requests.message());
        let first = tokio::select! {
            first = first => {
                first.map_err(|_| Status::deadline_exceeded("no discovery request came"))??
            }
            () = stop.cancelled() => return Err(stopping()),
        };
        let Some(mut first) = first else { return Ok(None) };
        let node = first.take_node().filter(|node| !node.id.is_empty());
        let node = node.ok_or_else(|| Status::invalid_argument("missing node information"))?;
        let NodeSession { resources, observer } = directory.connect(&node, &peer).await?;
        tracing::debug!(node = node.id, address = ?peer.address, "discovery stream opened");
        let observer = Observer(observer);
        let machine = P::default();
        let mut open = Box::new(Open { requests, resources, observer, machine, stop });
        open.hear(first);
        Ok(Some(open))
    }
}

impl<P: ServerProtocol> Open<P> {
    /// The next response, or nothing when the client closed the stream.
    async fn next(&mut self) -> Result<Option<P::Response>, Status> {
        loop {
            let resources = self.resources.borrow_and_update().clone();
            if let Some(response) = self.machine.next_response(&resources) {
                return Ok(Some(response));
            }
            while let Some((kind, version)) = self.machine.up_to_date() {
                self.observer.0.acked(kind, &version);
            }
            // In this order: a request may change what there is to push.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(stopping()),
                request = self.requests.message() => match request? {
                    Some(request) => self.hear(request),
                    None => return Ok(None),
                },
                changed = self.resources.changed() => if changed.is_err() {
                    return Err(Status::unavailable("the node is no longer served"));
                },
            }
        }
    }

    fn hear(&mut self, request: P::Request) {
        let observer = &self.observer.0;
        let event = self.machine.receive(request);
        tracing::trace!(?event, "discovery request");
        while let Some((kind, subscription)) = self.machine.changed_subscription() {
            observer.subscribed(kind, &subscription);
        }
        match event {
            ServerEvent::Acked { kind, version } => observer.acked(kind, &version),
            ServerEvent::Rejected { kind, version, names, message, .. } => {
                observer.rejected(&Refusal { kind, version, names, message });
            }
            ServerEvent::Subscribed(_) | ServerEvent::Stale(_) => {}
            ServerEvent::UnknownType(type_url) => {
                tracing::debug!(type_url, "a node asks for a type that is not served");
            }
        }
    }
}

fn stopping() -> Status {
    Status::unavailable("the server is stopping")
}
