//! Listeners in the engine.

use std::sync::Arc;
use std::time::Instant;

use weft_filters::config::{FieldError, decode};
use weft_model::Listener;
use weft_xds_client::Resource;
use weft_xds_proto::pb::envoy::config::listener::v3::Listener as PbListener;

use super::entry::{Entry, Origin, Version};
use super::{Cx, Engine, Needs, compiler};
use crate::compile;

/// A compiled listener and what it needs.
#[derive(Debug)]
pub(super) struct LoadedListener {
    pub(super) listener: Arc<Listener>,
    pub(super) needs: Needs,
}

impl Engine {
    /// Compiles a listener and lets it wait.
    pub(super) fn add_listener(
        &mut self,
        resource: &Resource,
        version: &str,
        origin: Origin,
        now: Instant,
    ) -> Result<(), FieldError> {
        let name: Arc<str> = resource.name.as_str().into();
        let entry = self.listeners.entry(Arc::clone(&name)).or_insert_with(|| Entry::new(origin));
        if entry.origin != origin {
            // As Envoy: the bootstrap's listeners are not the control plane's to change.
            return Ok(());
        }
        if origin == Origin::Static && entry.live().next().is_some() {
            return Err(FieldError::at("name", format!("{name:?} is there twice")));
        }
        if entry.is_current(resource) {
            entry.confirm(version);
            return Ok(());
        }
        let mut cx = compiler!(self);
        let compiled = decode::<PbListener>(&resource.body).and_then(|mut config| {
            // A static listener without a name goes by its address.
            config.name = resource.name.clone();
            compile::listener(&mut cx, &config, &resource.body)
        });
        let needs = cx.needs;
        let compiled = compiled.and_then(|listener| {
            self.enlist(&needs.tls)?;
            self.fill_extensions(&needs);
            Ok(listener)
        });
        let entry = self.listeners.get_mut(&name).expect("invariant: the entry was made above");
        match compiled {
            Err(error) => {
                entry.refuse(resource, version, &error);
                Err(error)
            }
            Ok(listener) => {
                let loaded = LoadedListener { listener: Arc::new(listener), needs };
                entry.take(resource, version, loaded, now);
                self.warming_listeners.insert(Arc::clone(&name));
                self.sort_tables();
                self.sort_extensions();
                self.try_listener(&name, now);
                Ok(())
            }
        }
    }

    /// Takes a listener away.
    pub(super) fn remove_listener(&mut self, name: &str) {
        match self.listeners.get(name) {
            Some(entry) if entry.origin == Origin::Dynamic => {}
            _ => return,
        }
        let removed = self.listeners.remove(name);
        self.warming_listeners.remove(name);
        self.changed |= removed.is_some_and(|entry| entry.active.is_some());
        self.sort_tables();
        self.sort_extensions();
    }

    /// Puts every warming listener that is warm into service.
    pub(super) fn warm_listeners(&mut self, now: Instant) {
        for name in self.warming_listeners.iter().cloned().collect::<Vec<_>>() {
            self.try_listener(&name, now);
        }
    }

    fn try_listener(&mut self, name: &Arc<str>, now: Instant) {
        // As Envoy: the bootstrap's listeners wait for its clusters to have checked their hosts.
        let checking = |name: &Arc<str>| {
            self.clusters.get(name).is_some_and(|entry| entry.origin == Origin::Static)
        };
        let checking = self.checking.keys().any(checking);
        let Some(entry) = self.listeners.get_mut(name) else { return };
        let held = match entry.origin {
            Origin::Dynamic => !self.accepted.settled,
            Origin::Static => checking,
        };
        if held || !entry.warming.as_ref().is_some_and(|version| is_warm(version, now)) {
            return;
        }
        if let Some(version) = &entry.warming {
            version.value.needs.extensions.iter().for_each(|one| one.give_up());
        }
        entry.active = entry.warming.take();
        self.warming_listeners.remove(name);
        self.changed = true;
        // The old one's routes and secrets may be nobody else's.
        self.wants_changed = true;
    }

    /// When a warming listener stops waiting for the next thing.
    pub(super) fn listener_deadline(&self, entry: &Entry<LoadedListener>) -> Option<Instant> {
        let version = entry.warming.as_ref()?;
        let needs = &version.value.needs;
        let plans = needs.tls.iter().filter(|plan| !plan.is_filled()).map(|plan| plan.timeout());
        let routes = needs.routes.iter().filter(|need| !need.slot.is_filled());
        let routes = routes.map(|need| need.timeout);
        let filters = needs.extensions.iter().filter(|one| !one.is_ready()).map(|one| one.timeout);
        let all: Option<Vec<_>> = plans.chain(routes).chain(filters).collect();
        all?.into_iter().max().map(|timeout| version.since + timeout)
    }
}

fn is_warm(version: &Version<LoadedListener>, now: Instant) -> bool {
    let waited = now.saturating_duration_since(version.since);
    let needs = &version.value.needs;
    let plan = |plan: &Arc<compile::TlsPlan>| {
        plan.is_filled() || plan.timeout().is_some_and(|timeout| waited >= timeout)
    };
    let routes = |need: &compile::NeededRoutes| {
        need.slot.is_filled() || need.timeout.is_some_and(|timeout| waited >= timeout)
    };
    let filter = |one: &Arc<compile::ExtensionUse>| {
        one.is_ready() || one.timeout.is_some_and(|timeout| waited >= timeout)
    };
    needs.tls.iter().all(plan)
        && needs.routes.iter().all(routes)
        && needs.extensions.iter().all(filter)
}
