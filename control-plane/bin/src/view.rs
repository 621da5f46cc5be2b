//! What the Admin API sees of the running mesh.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};
use weft_admin_api::{BoxFuture, MeshView, Trial};
use weft_control_model::{Change, MeshService, NodeStatus, Resources, Workload};
use weft_discovery::MeshRegistry;
use weft_translate::{Settings, problems_of};

use crate::engine::Question;
use crate::nodes::Nodes;

/// The running mesh.
pub(crate) struct View {
    pub(crate) registry: Arc<MeshRegistry>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) questions: mpsc::Sender<Question>,
}

impl MeshView for View {
    fn workloads(&self) -> Vec<Workload> {
        self.registry.workloads()
    }

    fn nodes(&self) -> Vec<NodeStatus> {
        self.nodes.statuses()
    }

    fn services(&self) -> BoxFuture<'_, Vec<MeshService>> {
        Box::pin(async {
            let (question, answer) = oneshot::channel();
            // The engine is gone only when the control plane ends.
            let _ = self.questions.send(question).await;
            answer.await.unwrap_or_default()
        })
    }
}

/// Tries changes against the resources as they were published last.
pub(crate) struct Attempt {
    pub(crate) settings: Settings,
    pub(crate) published: Arc<RwLock<Resources>>,
}

impl Trial for Attempt {
    fn attempt(&self, change: &Change) -> Result<(), String> {
        let mut resources = self.published.read().clone();
        resources.apply(change).map_err(|error| error.to_string())?;
        let problems = problems_of(&resources, &change.key, &self.settings);
        // References were checked in the store, which is ahead of what was published.
        match problems.into_iter().find(|problem| !problem.served && !problem.dangling) {
            Some(problem) => Err(format!("{}: {}", problem.field, problem.reason)),
            None => Ok(()),
        }
    }
}
