//! What lives as long as the client: the machine, the handler, the status, the cache.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use tokio::{sync::watch, time::sleep};
use weft_xds_ads::{Rejection, ResourceType, ResourceUpdate, Subscription};

use super::{ResourceHandler, lives::Lives};
use crate::{
    CacheError, CachedState, CachedType, ClientStatus, handle::Shared, persist::Persist, rpc::Rpc,
};

pub(super) struct State<P> {
    pub(super) machine: P,
    pub(super) handler: Box<dyn ResourceHandler>,
    pub(super) shared: Arc<Shared>,
    pub(super) status: watch::Sender<ClientStatus>,
    pub(super) persist: Persist,
    pub(super) lives: Lives,
}

impl<P: Rpc> State<P> {
    /// Serves the handler from the cache, then asks what it wants.
    pub(super) async fn restore(&mut self) {
        match self.persist.load().await {
            Ok(Some(cached)) => self.replay(cached),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the cached configuration is not used");
                self.cache_failed(&error);
            }
        }
        self.subscribe();
        self.status.send_modify(|status| status.restored = true);
    }

    /// Type by type in push order, each asked for anew: what is wanted of a later type depends on
    /// what an earlier one brought.
    fn replay(&mut self, cached: CachedState) {
        self.handler.resume(&cached.on_demand());
        let CachedState { mut types, blobs } = cached;
        for (name, content) in blobs {
            self.shared.blobs.lock().entry(name).or_insert(content);
        }
        for kind in ResourceType::ALL {
            let Some(CachedType { version, mut resources, .. }) = types.remove(&kind) else {
                continue;
            };
            let wanted: BTreeMap<_, _> = self.handler.subscriptions().into_iter().collect();
            let wanted = wanted.get(&kind).cloned().unwrap_or_else(Subscription::none);
            resources.retain(|resource| wanted.includes(&resource.name));
            if resources.is_empty() {
                continue;
            }
            let rejected = self.handler.apply(ResourceUpdate {
                resource_type: kind,
                version: version.clone(),
                added: resources.clone(),
                removed: Vec::new(),
                full: false,
            });
            resources.retain(|resource| rejected.iter().all(|one| one.name != resource.name));
            self.machine.restore(kind, &version, resources);
            self.record(kind, version, rejected);
        }
    }

    /// Applies a response and answers it.
    pub(super) fn receive(&mut self, response: P::Response) {
        let Some(received) = self.machine.receive(response) else { return };
        let (kind, version) = (received.update.resource_type, received.update.version.clone());
        let (added, removed) = (received.update.added.len(), received.update.removed.len());
        let names = received.update.added.iter().map(|one| &one.name);
        self.persist.resources_changed(kind, names.chain(&received.update.removed));
        let gone = received.update.removed.clone();
        let rejected = self.handler.apply(received.update);
        gone.into_iter().for_each(|name| self.lives.forget(kind, name));
        tracing::debug!(%kind, version, added, removed, rejected = rejected.len(), "update");
        for one in &rejected {
            tracing::warn!(%kind, name = one.name, field = one.field, reason = one.reason, "rejected");
        }
        // Nothing is sent between the two: in the state-of-the-world variant the answer carries
        // what is wanted by then.
        self.machine.complete(received.pending, rejected.clone());
        for (name, life) in received.lives {
            let held = self.machine.holdings().of(kind);
            // What was refused has not come to life.
            if held.is_some_and(|held| held.resources.contains_key(&name)) {
                self.lives.note(kind, name, life);
            }
        }
        if self.handler.wants_changed() {
            self.subscribe();
        }
        self.record(kind, version, rejected);
    }

    /// Gives up resources whose time is over, as if the server had removed them.
    pub(super) fn expire(&mut self) {
        for (kind, names) in self.lives.take_ended() {
            tracing::info!(%kind, ?names, "resources were not prolonged in time");
            self.machine.expire(kind, &names);
            self.persist.resources_changed(kind, names.iter());
            let version = self.machine.holdings().of(kind).map(|held| held.version.clone());
            // A removal can't be refused.
            self.handler.apply(ResourceUpdate {
                resource_type: kind,
                version: version.unwrap_or_default(),
                added: Vec::new(),
                removed: names,
                full: false,
            });
        }
        if self.handler.wants_changed() {
            self.subscribe();
        }
    }

    pub(super) fn subscribe(&mut self) {
        self.machine.set_subscriptions(self.handler.subscriptions());
    }

    fn record(&self, kind: ResourceType, version: String, rejected: Vec<Rejection>) {
        self.status.send_modify(|status| {
            let one = status.types.entry(kind).or_default();
            if rejected.is_empty() {
                one.accepted += 1;
                one.version = version;
            } else {
                one.rejected += 1;
            }
            one.last_update = Some(SystemTime::now());
            one.rejections = rejected;
        });
    }

    pub(super) fn opened(&mut self) {
        self.handler.connection_changed(true);
        self.status.send_modify(|status| {
            status.connected = true;
            status.connections += 1;
            status.last_error = None;
        });
    }

    pub(super) fn lost(&mut self, reason: &str) {
        self.machine.disconnected();
        let mut was_connected = false;
        self.status.send_modify(|status| {
            was_connected = std::mem::replace(&mut status.connected, false);
            status.last_error = Some(reason.to_owned());
        });
        if was_connected {
            tracing::info!(reason, "the stream to the control plane ended");
            self.handler.connection_changed(false);
        } else {
            tracing::debug!(reason, "the control plane can't be reached");
        }
    }

    /// Waits between two attempts, and goes on serving the owner meanwhile.
    pub(super) async fn wait(&mut self, time: Duration) {
        let over = sleep(time);
        tokio::pin!(over);
        loop {
            // Order does not matter: each branch leaves the others' state alone.
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = &mut over => return,
                () = self.lives.due() => self.expire(),
                () = self.shared.refresh.notified() => self.subscribe(),
                () = self.shared.blobs_changed.notified() => self.persist.changed(),
                earlier = self.persist.due() => self.write(earlier),
            }
        }
    }

    /// Has what is held written to the cache; `earlier` is how the write before ended.
    pub(super) fn write(&mut self, earlier: Result<(), CacheError>) {
        self.written(earlier);
        if self.persist.append(self.machine.holdings()) {
            return;
        }
        let blobs = self.shared.blobs.lock().clone();
        self.persist.write(CachedState::of(self.machine.holdings(), self.machine.wanted(), blobs));
    }

    /// Writes what is not written yet, also what the owner asked to keep at the last moment.
    pub(super) async fn finish(&mut self) {
        if self.shared.blobs_changed.notified().now_or_never().is_some() {
            self.persist.changed();
        }
        let earlier = self.persist.written().await;
        if self.persist.is_due() {
            self.write(earlier);
            let last = self.persist.written().await;
            self.written(last);
        } else {
            self.written(earlier);
        }
    }

    fn written(&self, result: Result<(), CacheError>) {
        if let Err(error) = result {
            tracing::warn!(%error, "the configuration could not be cached");
            self.cache_failed(&error);
        }
    }

    fn cache_failed(&self, error: &CacheError) {
        self.status.send_modify(|status| status.cache_error = Some(error.to_string()));
    }
}
