//! Clusters in the engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_filters::config::{FieldError, decode};
use weft_model::{Cluster, ClusterHandle, Discovery, EndpointSet};
use weft_xds_client::Resource;
use weft_xds_proto::pb::envoy::config::cluster::v3::Cluster as PbCluster;

use super::entry::{Entry, Origin, Version};
use super::{Cx, Engine, Needs, compiler};
use crate::compile::{self, no_endpoints};

/// A compiled cluster and what it needs.
#[derive(Debug)]
pub(super) struct LoadedCluster {
    pub(super) cluster: Arc<Cluster>,
    /// Endpoints that stand in the configuration.
    pub(super) endpoints: Arc<EndpointSet>,
    pub(super) needs: Needs,
}

/// A new cluster whose hosts are checked for the first time.
#[derive(Debug)]
pub(super) struct Checking {
    pub(super) handle: Arc<ClusterHandle>,
    since: Instant,
}

/// How long names may take to be resolved, before a cluster that checks its hosts serves without.
const DNS_GRACE: Duration = Duration::from_secs(5);
/// What is added to the time that a first check may take, before a cluster serves without it.
const CHECK_GRACE: Duration = Duration::from_secs(1);

impl LoadedCluster {
    /// How long the first check of its hosts may take.
    fn longest_check(&self) -> Option<Duration> {
        let check = self.cluster.health_check.as_ref()?;
        let dns = match &self.cluster.discovery {
            Discovery::StrictDns(_) | Discovery::LogicalDns(_) => DNS_GRACE,
            _ => Duration::ZERO,
        };
        Some(dns + check.pace.initial_jitter + check.timeout + CHECK_GRACE)
    }

    /// The name of its assignment.
    pub(super) fn assignment(&self) -> Option<&Arc<str>> {
        match &self.cluster.discovery {
            Discovery::Eds(name) => Some(name),
            _ => None,
        }
    }
}

impl Engine {
    /// Compiles a cluster and lets it wait.
    pub(super) fn add_cluster(
        &mut self,
        resource: &Resource,
        version: &str,
        origin: Origin,
        now: Instant,
    ) -> Result<(), FieldError> {
        let name: Arc<str> = resource.name.as_str().into();
        let entry = self.clusters.entry(Arc::clone(&name)).or_insert_with(|| Entry::new(origin));
        if entry.origin != origin {
            // As Envoy: the bootstrap's clusters are not the control plane's to change.
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
        let compiled = decode::<PbCluster>(&resource.body)
            .and_then(|config| compile::cluster(&mut cx, &config));
        let needs = cx.needs;
        self.wants_changed |= !needs.tls.is_empty();
        let compiled = compiled.and_then(|compiled| {
            self.enlist(&needs.tls)?;
            Ok(compiled)
        });
        let entry = self.clusters.get_mut(&name).expect("invariant: the entry was made above");
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(error) => {
                entry.refuse(resource, version, &error);
                return Err(error);
            }
        };
        let loaded = LoadedCluster {
            cluster: Arc::new(compiled.cluster),
            endpoints: Arc::new(compiled.endpoints),
            needs,
        };
        let assignment = loaded.assignment().cloned();
        let before = entry.warming.as_ref().and_then(|v| v.value.assignment().cloned());
        let serving = entry.active.as_ref().and_then(|v| v.value.assignment().cloned());
        entry.take(resource, version, loaded, now);
        self.changed |= self.checking.remove(&name).is_some();
        self.warming_clusters.insert(Arc::clone(&name));
        if let Some(assignment) = &assignment {
            self.wants_changed = true;
            self.eds_users.entry(Arc::clone(assignment)).or_default().insert(Arc::clone(&name));
        }
        if before != assignment && before != serving {
            self.leave_assignment(before.as_deref(), &name);
        }
        self.try_cluster(&name, now);
        Ok(())
    }

    /// Takes a cluster away.
    pub(super) fn remove_cluster(&mut self, name: &str) {
        match self.clusters.get(name) {
            Some(entry) if entry.origin == Origin::Dynamic => {}
            _ => return,
        }
        let Some(entry) = self.clusters.remove(name) else { return };
        self.warming_clusters.remove(name);
        self.changed |= self.checking.remove(name).is_some();
        for version in entry.live() {
            self.leave_assignment(version.value.assignment().map(|n| &**n), name);
        }
        self.wants_changed = true;
        if self.handles.remove_mut(name) {
            self.names.cluster(name).clear();
            self.changed = true;
        }
        if let Some(version) = entry.active {
            self.registry.forget("cluster", &version.value.cluster.stat_name);
        }
    }

    /// Notes that a cluster uses an assignment no longer.
    fn leave_assignment(&mut self, assignment: Option<&str>, cluster: &str) {
        let Some(assignment) = assignment else { return };
        let Some(users) = self.eds_users.get_mut(assignment) else { return };
        users.remove(cluster);
        if users.is_empty() {
            self.wants_changed = true;
            self.eds_users.remove(assignment);
            self.assignments.remove(assignment);
        }
    }

    /// Puts every warming cluster that is warm into service.
    pub(super) fn warm_clusters(&mut self, now: Instant) {
        for name in self.warming_clusters.iter().cloned().collect::<Vec<_>>() {
            self.try_cluster(&name, now);
        }
    }

    /// Puts a warming cluster into service, if it is warm.
    pub(super) fn try_cluster(&mut self, name: &Arc<str>, now: Instant) {
        let Some(entry) = self.clusters.get(name) else { return };
        let Some(version) = &entry.warming else { return };
        if !self.is_warm(version, now) || !self.is_checked(name, now) {
            return;
        }
        self.warming_clusters.remove(name);
        let entry = self.clusters.get_mut(name).expect("invariant: it was found above");
        let old = std::mem::replace(&mut entry.active, entry.warming.take());
        let version = entry.active.as_ref().expect("invariant: it was put there above");
        // The old one's secrets may be nobody else's.
        self.wants_changed |= old.is_some();
        let cluster = Arc::clone(&version.value.cluster);
        let fixed = Arc::clone(&version.value.endpoints);
        let assignment = version.value.assignment().cloned();
        let former = old.as_ref().and_then(|old| old.value.assignment().cloned());
        self.serve(&cluster, fixed);
        self.demands.cluster_came(name);
        if former != assignment {
            self.leave_assignment(former.as_deref(), name);
        }
    }

    fn is_warm(&self, version: &Version<LoadedCluster>, now: Instant) -> bool {
        let waited = now.saturating_duration_since(version.since);
        let endpoints = match (version.value.assignment(), &version.value.needs.endpoints) {
            (Some(name), Some(needed)) => {
                self.assignments.contains_key(name) || needed.timeout.is_some_and(|t| waited >= t)
            }
            _ => true,
        };
        let there = |plan: &Arc<compile::TlsPlan>| {
            plan.is_filled() || plan.timeout().is_some_and(|timeout| waited >= timeout)
        };
        endpoints && version.value.needs.tls.iter().all(there)
    }

    /// Whether a cluster may serve as far as its health checks are concerned. A new one has each
    /// of its hosts checked before, as Envoy does it; one that serves goes on serving.
    fn is_checked(&mut self, name: &Arc<str>, now: Instant) -> bool {
        let version = self.clusters.get(name).and_then(|entry| entry.warming.as_ref());
        let Some(version) = version else { return false };
        let Some(longest) = version.value.longest_check() else { return true };
        if self.handles.contains_key(name) {
            return true;
        }
        let cluster = &version.value.cluster;
        let by_name =
            matches!(cluster.discovery, Discovery::StrictDns(_) | Discovery::LogicalDns(_));
        if let Some(checking) = self.checking.get(name) {
            let unresolved = by_name && checking.handle.endpoints().iter().next().is_none();
            let waited = now.saturating_duration_since(checking.since);
            return waited >= longest || (!unresolved && checking.handle.is_checked());
        }
        let fixed = Arc::clone(&version.value.endpoints);
        let endpoints = self.endpoints_of(cluster, fixed, None);
        let registry = self.registry.clone();
        let handle = ClusterHandle::new(Arc::clone(cluster), endpoints, registry);
        if !by_name && handle.is_checked() {
            // There is nobody to check.
            return true;
        }
        let checking = Checking { handle: Arc::new(handle), since: now };
        self.checking.insert(Arc::clone(name), checking);
        self.changed = true;
        false
    }

    /// When a warming cluster stops waiting for the next thing.
    pub(super) fn cluster_deadline(&self, entry: &Entry<LoadedCluster>) -> Option<Instant> {
        let version = entry.warming.as_ref()?;
        if self.checking.contains_key(&version.value.cluster.name) {
            // It is looked after at each tick.
            return Some(version.since);
        }
        let plans = version.value.needs.tls.iter().filter(|plan| !plan.is_filled());
        let endpoints = version.value.needs.endpoints.as_ref().filter(|_| {
            version.value.assignment().is_some_and(|name| !self.assignments.contains_key(name))
        });
        let timeouts = plans.map(|plan| plan.timeout()).chain(endpoints.map(|e| e.timeout));
        // It goes on when the last one has passed; one without an end keeps it for ever.
        let all: Option<Vec<_>> = timeouts.collect();
        all?.into_iter().max().map(|timeout| version.since + timeout)
    }

    /// Swaps a configuration into the cluster's handle, making one if there is none.
    fn serve(&mut self, cluster: &Arc<Cluster>, fixed: Arc<EndpointSet>) {
        // Whoever derives state from a configuration sees it in the next snapshot.
        self.changed = true;
        if let Some(handle) = self.handles.get(&cluster.name).cloned() {
            let before = Arc::clone(&handle.endpoints());
            handle.set_config(Arc::clone(cluster));
            handle.set_endpoints(self.endpoints_of(cluster, fixed, Some(before)));
            return;
        }
        let handle = match self.checking.remove(&cluster.name) {
            Some(checking) => checking.handle,
            None => {
                let endpoints = self.endpoints_of(cluster, fixed, None);
                let registry = self.registry.clone();
                Arc::new(ClusterHandle::new(Arc::clone(cluster), endpoints, registry))
            }
        };
        self.names.cluster(&cluster.name).set(Arc::clone(&handle));
        self.handles.insert_mut(Arc::clone(&cluster.name), handle);
    }

    /// The endpoints that a cluster has now, given those that it had.
    fn endpoints_of(
        &self,
        cluster: &Cluster,
        fixed: Arc<EndpointSet>,
        before: Option<Arc<EndpointSet>>,
    ) -> Arc<EndpointSet> {
        let before = before.unwrap_or_else(no_endpoints);
        match &cluster.discovery {
            Discovery::Static => fixed,
            Discovery::Eds(name) => {
                let held = self.assignments.get(name).map(|held| Arc::clone(&held.set));
                let held = held.unwrap_or_else(no_endpoints);
                Arc::new(compile::place(&held, cluster, &before))
            }
            // The resolver's, or the connections' own: they stay as they are.
            _ => before,
        }
    }
}
