//! What the Admin API works with.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::RwLock;
use weft_control_model::{Change, MeshService, NodeStatus, Workload};
use weft_store::Store;

use crate::Access;

/// What the control plane knows of the running mesh.
pub trait MeshView: Send + Sync {
    /// The workloads that are connected.
    fn workloads(&self) -> Vec<Workload>;

    /// The connected nodes, with what each accepted and rejected.
    fn nodes(&self) -> Vec<NodeStatus>;

    /// The host names of the mesh.
    fn services(&self) -> BoxFuture<'_, Vec<MeshService>>;
}

/// Tries out a change before it is stored.
///
/// A resource can be right by every schema and still say what no proxy can
/// do; its author is to hear of it at once.
pub trait Trial: Send + Sync {
    /// Whether the new resource can be served beside the others as they are.
    ///
    /// # Errors
    /// The field and the reason: `plugins.redirect.ret_code: …`.
    fn attempt(&self, change: &Change) -> Result<(), String>;
}

/// What the Admin API works with.
#[derive(Clone)]
pub struct AdminState {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) mesh: Arc<dyn MeshView>,
    pub(crate) access: Arc<Access>,
    pub(crate) trial: Option<Arc<dyn Trial>>,
    pub(crate) cors: bool,
    /// Deletions exclude other writes, so that no reference is made to what
    /// is just being deleted.
    pub(crate) writes: Arc<RwLock<()>>,
}

impl AdminState {
    /// An Admin API over `store` that lets in as `access` says.
    pub fn new(store: Arc<dyn Store>, mesh: Arc<dyn MeshView>, access: Access) -> Self {
        let (access, writes) = (Arc::new(access), Arc::new(RwLock::new(())));
        Self { store, mesh, access, trial: None, cors: true, writes }
    }

    /// With a trial of every resource before it is stored.
    #[must_use]
    pub fn with_trial(mut self, trial: Arc<dyn Trial>) -> Self {
        self.trial = Some(trial);
        self
    }

    /// Without headers for browsers of other origins (`enable_admin_cors: false`).
    #[must_use]
    pub fn without_cors(mut self) -> Self {
        self.cors = false;
        self
    }
}
