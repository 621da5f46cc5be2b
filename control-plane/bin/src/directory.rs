//! The xDS server's view: who connects, and what it is served.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use weft_discovery::MeshRegistry;
use weft_translate::{NodeProfile, answers_dns, discovery_of, workload_of};
use weft_xds_server::{
    BoxFuture, Node, NodeDirectory, NodeSession, Peer, Refusal, ResourceType, SessionObserver,
    Subscription,
};

use crate::authority::Authority;
use crate::config::EdgeConfig;
use crate::engine::{Arrival, unix_now};
use crate::identity::{Door, check};
use crate::nodes::Nodes;

/// Takes in nodes that come through one door.
#[derive(Clone)]
pub(crate) struct Directory {
    pub(crate) door: Door,
    pub(crate) authority: Authority,
    pub(crate) edge: EdgeConfig,
    /// Sidecars are sent all services unless they want it otherwise.
    pub(crate) whole_mesh: bool,
    pub(crate) arrivals: mpsc::Sender<Arrival>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) registry: Arc<MeshRegistry>,
}

impl NodeDirectory for Directory {
    fn connect<'a>(
        &'a self,
        node: &'a Node,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<NodeSession, Status>> {
        Box::pin(self.take_in(node, peer))
    }
}

impl Directory {
    async fn take_in(&self, node: &Node, peer: &Peer) -> Result<NodeSession, Status> {
        let workload = workload_of(node, unix_now())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let id = workload.id.clone();
        let authenticators = &self.authority.authenticators;
        let trusted = check(self.door, &workload, peer, authenticators, &self.edge)
            .await
            .inspect_err(|status| {
                tracing::warn!(node = %id, reason = %status.message(), "node refused");
            })?;
        let discovery = discovery_of(node, peer.incremental, self.whole_mesh)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let profile = NodeProfile::new(&workload, trusted)
            .discovering(discovery)
            .answering_dns(answers_dns(node));
        let role = workload.role;
        // From here on the workload is known; a caller that gives up takes it away again.
        self.registry.connected(workload);
        let mut leaving = Leaving { directory: self, id: &id, armed: true };
        let (reply, session) = oneshot::channel();
        let arrival = Arrival { id: id.clone(), role, profile, reply };
        let ending = |_| Status::unavailable("the control plane is ending");
        self.arrivals.send(arrival).await.map_err(|_| ending(()))?;
        let (number, resources) = session.await.map_err(|_| ending(()))?;
        leaving.armed = false;
        tracing::info!(node = %id, role = ?role, "node connected");
        let observer = Observer {
            number,
            id: id.clone(),
            nodes: Arc::clone(&self.nodes),
            registry: Arc::clone(&self.registry),
        };
        Ok(NodeSession { resources, observer: Arc::new(observer) })
    }
}

/// Takes a workload away again unless its stream came about.
struct Leaving<'a> {
    directory: &'a Directory,
    id: &'a str,
    armed: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.directory.registry.disconnected(self.id);
        }
    }
}

struct Observer {
    number: u64,
    id: String,
    nodes: Arc<Nodes>,
    registry: Arc<MeshRegistry>,
}

impl SessionObserver for Observer {
    fn subscribed(&self, kind: ResourceType, subscription: &Subscription) {
        self.nodes.subscribed(self.number, kind, subscription);
    }

    fn acked(&self, kind: ResourceType, version: &str) {
        self.nodes.accepted(self.number, kind, version);
    }

    fn rejected(&self, refusal: &Refusal) {
        tracing::warn!(
            node = %self.id,
            kind = %refusal.kind,
            resources = ?refusal.names,
            reason = %refusal.message,
            "node rejected resources"
        );
        self.nodes.rejected(self.number, refusal);
    }

    fn closed(&self) {
        tracing::info!(node = %self.id, "node disconnected");
        self.nodes.remove(self.number);
        self.registry.disconnected(&self.id);
    }
}
