//! What the Admin API works with.

use std::sync::Arc;

use tokio::sync::RwLock;
use weft_control_model::{MeshService, NodeStatus, Workload};
use weft_store::Store;

use crate::Access;

/// What the control plane knows of the running mesh.
pub trait MeshView: Send + Sync {
    /// The workloads that are connected.
    fn workloads(&self) -> Vec<Workload>;

    /// The connected nodes, with what each accepted and rejected.
    fn nodes(&self) -> Vec<NodeStatus>;

    /// The host names of the mesh.
    fn services(&self) -> Vec<MeshService>;
}

/// What the Admin API works with.
#[derive(Clone)]
pub struct AdminState {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) mesh: Arc<dyn MeshView>,
    pub(crate) access: Arc<Access>,
    pub(crate) cors: bool,
    /// Deletions exclude other writes, so that no reference is made to what
    /// is just being deleted.
    pub(crate) writes: Arc<RwLock<()>>,
}

impl AdminState {
    /// An Admin API over `store` that lets in as `access` says.
    pub fn new(store: Arc<dyn Store>, mesh: Arc<dyn MeshView>, access: Access) -> Self {
        let (access, writes) = (Arc::new(access), Arc::new(RwLock::new(())));
        Self { store, mesh, access, cors: true, writes }
    }

    /// Without headers for browsers of other origins (`enable_admin_cors: false`).
    #[must_use]
    pub fn without_cors(mut self) -> Self {
        self.cors = false;
        self
    }
}
