//! The task that keeps the stream open and the handler informed.

mod lives;
mod session;
mod state;

use std::sync::Arc;

use tokio::sync::watch;
use weft_xds_ads::{
    Rejection, ResourceType, ResourceUpdate, Subscription,
    client::{DeltaClient, SotwClient},
};

use crate::{
    ClientConfig, ClientHandle, ClientStatus, Transport, Variant, backoff::Waits, handle::Shared,
    persist::Persist, rpc::Rpc,
};
use lives::Lives;
use state::State;

/// The receiver of configuration: synchronous, and called from one task only.
pub trait ResourceHandler: Send + 'static {
    /// What is wanted right now, by type; asked at the start, after each update and after
    /// [`ClientHandle::refresh`]. Types left out are not wanted.
    fn subscriptions(&self) -> Vec<(ResourceType, Subscription)>;

    /// Whether something else may be wanted than at the last [`Self::subscriptions`]; asked after
    /// each update, so that one that changes nothing of it costs nothing of it.
    fn wants_changed(&mut self) -> bool {
        true
    }

    /// Told before anything is applied from the cache what was wanted when that was written.
    fn resume(&mut self, _wanted: &[(ResourceType, Subscription)]) {}

    /// Applies one response's worth of one type; returns what was rejected. What is not named
    /// counts as accepted and is kept over reconnections and in the cache.
    fn apply(&mut self, update: ResourceUpdate) -> Vec<Rejection>;

    /// Told when a stream is opened or lost.
    fn connection_changed(&mut self, _connected: bool) {}
}

/// Starts a client on the current runtime.
///
/// # Panics
/// When called outside a tokio runtime.
pub fn spawn(
    config: ClientConfig,
    transport: Arc<dyn Transport>,
    handler: Box<dyn ResourceHandler>,
) -> ClientHandle {
    let shared = Arc::new(Shared::default());
    let (status, watch) = watch::channel(ClientStatus::default());
    let parts = Parts { config, transport, handler, shared: shared.clone(), status };
    let task = match parts.config.variant {
        Variant::Delta => {
            let machine = DeltaClient::new(parts.config.node.clone());
            tokio::spawn(Box::pin(run(parts, machine)))
        }
        Variant::Sotw => {
            let machine = SotwClient::new(parts.config.node.clone());
            tokio::spawn(Box::pin(run(parts, machine)))
        }
    };
    ClientHandle::new(shared, task, watch)
}

struct Parts {
    config: ClientConfig,
    transport: Arc<dyn Transport>,
    handler: Box<dyn ResourceHandler>,
    shared: Arc<Shared>,
    status: watch::Sender<ClientStatus>,
}

async fn run<P: Rpc>(parts: Parts, machine: P) {
    let Parts { config, transport, handler, shared, status } = parts;
    let persist = Persist::new(&config);
    let mut waits = Waits::new(config.backoff);
    let mut state = State { machine, handler, shared, status, persist, lives: Lives::default() };
    state.restore().await;
    while !state.shared.stop.is_cancelled() {
        let ended = session::run(&mut state, &transport, &config).await;
        state.lost(&ended.reason);
        if ended.answered {
            waits.reset();
        }
        state.wait(waits.next()).await;
    }
    state.finish().await;
}
