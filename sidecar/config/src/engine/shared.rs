//! An engine that the xDS client, the certificate agent and the administration share.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use weft_xds_client::{Rejection, ResourceHandler, ResourceType, ResourceUpdate, Subscription};

use super::{Engine, SecretServer};

/// A handle to an engine; clones are the same engine. Nothing on the request path takes its lock.
#[derive(Clone)]
pub struct SharedEngine(Arc<Mutex<Engine>>);

impl SharedEngine {
    /// Shares an engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self(Arc::new(Mutex::new(engine)))
    }

    /// The engine, for a short while.
    pub fn lock(&self) -> MutexGuard<'_, Engine> {
        self.0.lock()
    }
}

impl ResourceHandler for SharedEngine {
    fn subscriptions(&self) -> Vec<(ResourceType, Subscription)> {
        self.lock().subscriptions()
    }

    fn wants_changed(&mut self) -> bool {
        self.lock().take_wants_changed()
    }

    fn resume(&mut self, wanted: &[(ResourceType, Subscription)]) {
        self.lock().resume(wanted, Instant::now());
    }

    fn apply(&mut self, update: ResourceUpdate) -> Vec<Rejection> {
        self.lock().apply(update, Instant::now())
    }

    fn connection_changed(&mut self, connected: bool) {
        self.lock().set_connected(connected);
    }
}

/// Takes what one server of secrets sends.
#[derive(Clone)]
pub struct SecretReceiver {
    /// The engine.
    pub engine: SharedEngine,
    /// The server.
    pub server: SecretServer,
}

impl ResourceHandler for SecretReceiver {
    fn subscriptions(&self) -> Vec<(ResourceType, Subscription)> {
        let names = self.engine.lock().secret_servers().remove(&self.server).unwrap_or_default();
        vec![(ResourceType::Secret, Subscription::Names(names))]
    }

    fn apply(&mut self, update: ResourceUpdate) -> Vec<Rejection> {
        self.engine.lock().apply_secrets(&self.server, &update, Instant::now())
    }
}
