//! What each route adds to what is served, kept from one change to the next, so that a change costs
//! what it touches and not what there is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_control_model::{ResourceId, ResourceKey, ResourceKind, Resources, Route, Scope};

mod one;

use crate::hosts::HostPattern;
use crate::problem::Problem;
use crate::route_tables::{Groups, Shared, patterns};
use crate::served::MeshHost;
use crate::settings::Settings;
use crate::targets::{Target, service_key};
use one::{Contribution, InMesh};

/// The routes as they are served: of the mesh by port, of edges in the clear and over TLS.
pub(crate) struct Contributions {
    settings: Settings,
    /// What was taken up last.
    seen: Option<Resources>,
    by_owner: BTreeMap<ResourceKey, Contribution>,
    /// Who has to be looked at anew when a resource changes.
    dependents: HashMap<ResourceKey, BTreeSet<ResourceKey>>,
    /// Those who may be better off after any change of a service or an upstream.
    in_trouble: BTreeSet<ResourceKey>,
    /// The routes that are not for edges alone, by service: it is served by them, not by itself.
    routes_of: HashMap<ResourceId, BTreeSet<ResourceKey>>,
    /// Those who are called by a host of the mesh.
    callees: BTreeMap<String, BTreeSet<ResourceKey>>,
    /// The mesh's routes.
    pub(crate) mesh: BTreeMap<u16, Groups>,
    /// The edges' routes: in the clear, over TLS.
    pub(crate) edge: [Groups; 2],
    /// The upstreams of all of them, by the names of their clusters.
    pub(crate) targets: BTreeMap<String, TargetUse>,
    shared: Arc<Shared>,
}

/// An upstream, and how many lead to it.
pub(crate) struct TargetUse {
    pub(crate) target: Target,
    pub(crate) in_mesh: usize,
    pub(crate) at_edges: usize,
}

/// What changed.
#[derive(Default)]
pub(crate) struct Changes {
    /// More than is told below.
    pub(crate) everything: bool,
    /// The mesh's hosts whose routes may be others.
    pub(crate) hosts: BTreeSet<HostPattern>,
    /// Whether edges' routes may be others.
    pub(crate) at_edges: bool,
    /// The clusters that may be others.
    pub(crate) targets: BTreeSet<String>,
    /// Whether services or upstreams changed.
    pub(crate) services: bool,
    /// Whether what edges' listeners are made of changed.
    pub(crate) edge_listeners: bool,
    /// Whether hosts of the mesh came, went, or have other ports.
    pub(crate) names: bool,
    /// Hosts of the mesh that were not called before.
    pub(crate) new_hosts: BTreeSet<String>,
}

impl Changes {
    /// Adds later ones.
    pub(crate) fn extend(&mut self, later: Self) {
        self.everything |= later.everything;
        self.at_edges |= later.at_edges;
        self.services |= later.services;
        self.edge_listeners |= later.edge_listeners;
        self.names |= later.names;
        self.hosts.extend(later.hosts);
        self.targets.extend(later.targets);
        self.new_hosts.extend(later.new_hosts);
    }
}

impl Contributions {
    /// Nothing yet.
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            seen: None,
            by_owner: BTreeMap::new(),
            dependents: HashMap::new(),
            in_trouble: BTreeSet::new(),
            routes_of: HashMap::new(),
            callees: BTreeMap::new(),
            mesh: BTreeMap::new(),
            edge: Default::default(),
            targets: BTreeMap::new(),
            shared: Arc::default(),
        }
    }

    /// Takes up the configuration.
    pub(crate) fn update(&mut self, resources: &Resources) -> Changes {
        let mut changes = Changes::default();
        let seen = self.seen.replace(resources.clone());
        let comparable = seen.filter(|seen| {
            seen.kept.is_same(&resources.kept) && Arc::ptr_eq(&seen.mesh, &resources.mesh)
        });
        let owners = match comparable {
            Some(seen) => self.changed_owners(&seen, resources, &mut changes),
            None => self.begin_anew(resources, &mut changes),
        };
        for owner in owners {
            self.renew(resources, owner, &mut changes);
        }
        changes
    }

    /// What is not served, or not as written.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        let owners = self.in_trouble.iter().filter_map(|owner| self.by_owner.get(owner));
        owners.flat_map(|one| &one.problems)
    }

    /// The hosts by which the mesh's routes are called, exact names only.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&String, MeshHost)> {
        self.callees.iter().filter(|(host, _)| !host.contains('*')).map(|(host, owners)| {
            let called = owners.iter().filter_map(|owner| self.by_owner.get(owner)?.mesh.as_ref());
            let ports = called.flat_map(|mesh| mesh.ports.iter().copied()).collect();
            (host, MeshHost { ports, ..MeshHost::default() })
        })
    }

    /// The clusters behind a host of the mesh.
    pub(crate) fn clusters_of(&self, host: &str) -> BTreeSet<String> {
        let owners = self.callees.get(host).into_iter().flatten();
        let routes =
            owners.filter_map(|owner| self.by_owner.get(owner)?.mesh.as_ref()?.route.as_ref());
        routes.flat_map(|route| route.targets.keys().cloned()).collect()
    }

    /// Forgets all; the owners that there are.
    fn begin_anew(
        &mut self,
        resources: &Resources,
        changes: &mut Changes,
    ) -> BTreeSet<ResourceKey> {
        *self = Self {
            seen: self.seen.take(),
            targets: std::mem::take(&mut self.targets),
            shared: Shared::new(resources),
            ..Self::new(self.settings.clone())
        };
        changes.targets.extend(std::mem::take(&mut self.targets).into_keys());
        (changes.everything, changes.services, changes.edge_listeners) = (true, true, true);
        changes.at_edges = true;
        self.edge = [Groups::new(&self.shared), Groups::new(&self.shared)];
        for port in &self.settings.service_ports {
            self.mesh.insert(*port, Groups::new(&self.shared));
        }
        for item in resources.routes.iter() {
            self.note_service(&route_key(&item.id), None, Some(&*item.value));
        }
        let routes = resources.routes.iter().map(|item| route_key(&item.id));
        routes.chain(resources.services.iter().map(service_key)).collect()
    }

    /// Those of whom something may have changed.
    fn changed_owners(
        &mut self,
        seen: &Resources,
        resources: &Resources,
        changes: &mut Changes,
    ) -> BTreeSet<ResourceKey> {
        let mut owners = BTreeSet::new();
        for id in resources.routes.changed_since(&seen.routes) {
            let versions = [seen.routes.get(&id), resources.routes.get(&id)];
            let [before, after] = versions.map(|item| item.map(|item| &*item.value));
            let services = [before, after].into_iter().flatten();
            let services = services.filter_map(|route| route.service_id.clone());
            owners.extend(services.map(|id| ResourceKey::new(ResourceKind::Service, id)));
            let key = route_key(&id);
            self.note_service(&key, before, after);
            owners.insert(key);
        }
        let services = resources.services.changed_since(&seen.services).into_iter();
        let upstreams = resources.upstreams.changed_since(&seen.upstreams).into_iter();
        let services = services.map(|id| ResourceKey::new(ResourceKind::Service, id));
        let upstreams = upstreams.map(|id| ResourceKey::new(ResourceKind::Upstream, id));
        for key in services.chain(upstreams) {
            changes.services = true;
            owners.extend(self.dependents.get(&key).into_iter().flatten().cloned());
            if key.kind == ResourceKind::Service {
                owners.insert(key);
            }
        }
        if changes.services {
            owners.extend(self.in_trouble.iter().cloned());
        }
        changes.edge_listeners = !resources.ssls.is_same(&seen.ssls);
        owners
    }

    /// Keeps in mind which routes a service has.
    fn note_service(&mut self, key: &ResourceKey, before: Option<&Route>, after: Option<&Route>) {
        let of_mesh = |route: &&Route| route.scope() != Scope::Edge;
        let service = |route: Option<&Route>| route.filter(of_mesh)?.service_id.clone();
        if let Some(service) = service(before)
            && let Some(routes) = self.routes_of.get_mut(&service)
        {
            routes.remove(key);
            if routes.is_empty() {
                self.routes_of.remove(&service);
            }
        }
        if let Some(service) = service(after) {
            self.routes_of.entry(service).or_default().insert(key.clone());
        }
    }

    fn renew(&mut self, resources: &Resources, owner: ResourceKey, changes: &mut Changes) {
        let before = self.by_owner.remove(&owner);
        if let Some(before) = &before {
            self.withdraw(&owner, before, changes);
        }
        let has_routes = self.routes_of.contains_key(&owner.id);
        let after = Contribution::of(resources, &owner, &self.settings, has_routes);
        let called = |one: &Option<Contribution>| one.as_ref().and_then(Contribution::called);
        changes.names |= called(&before) != called(&after);
        if let Some(after) = after {
            self.add(&owner, &after, changes);
            self.by_owner.insert(owner, after);
        }
    }

    fn add(&mut self, owner: &ResourceKey, one: &Contribution, changes: &mut Changes) {
        let patterns = patterns(&one.hosts);
        if let Some(InMesh { ports, route }) = &one.mesh {
            for host in &one.hosts {
                let callees = self.callees.entry(host.clone()).or_insert_with(|| {
                    changes.new_hosts.insert(host.clone());
                    BTreeSet::new()
                });
                callees.insert(owner.clone());
            }
            for (port, route) in ports.iter().filter_map(|port| Some((port, route.as_ref()?))) {
                let shared = &self.shared;
                let groups = self.mesh.entry(*port).or_insert_with(|| Groups::new(shared));
                patterns.iter().for_each(|pattern| groups.add(pattern, route));
            }
            changes.hosts.extend(patterns.iter().cloned());
        }
        for (groups, route) in self.edge.iter_mut().zip(&one.edge) {
            let Some(route) = route else { continue };
            patterns.iter().for_each(|pattern| groups.add(pattern, route));
            changes.at_edges = true;
        }
        for (in_mesh, route) in one.translated() {
            for (name, target) in &route.targets {
                changes.targets.insert(name.clone());
                let unused = || TargetUse { target: target.clone(), in_mesh: 0, at_edges: 0 };
                let known = self.targets.entry(name.clone()).or_insert_with(unused);
                known.target = target.clone();
                *known.count(in_mesh) += 1;
            }
        }
        for used in &one.uses {
            self.dependents.entry(used.clone()).or_default().insert(owner.clone());
        }
        if !one.problems.is_empty() {
            self.in_trouble.insert(owner.clone());
        }
    }

    /// Takes out what [`Self::add`] added.
    fn withdraw(&mut self, owner: &ResourceKey, one: &Contribution, changes: &mut Changes) {
        let patterns = patterns(&one.hosts);
        if let Some(InMesh { ports, route }) = &one.mesh {
            for host in &one.hosts {
                leave(&mut self.callees, host, owner);
            }
            for port in ports {
                let (Some(groups), Some(route)) = (self.mesh.get_mut(port), route) else {
                    continue;
                };
                patterns.iter().for_each(|pattern| groups.remove(pattern, route));
                if groups.is_empty() && !self.settings.service_ports.contains(port) {
                    self.mesh.remove(port);
                }
            }
            changes.hosts.extend(patterns.iter().cloned());
        }
        for (groups, route) in self.edge.iter_mut().zip(&one.edge) {
            let Some(route) = route else { continue };
            patterns.iter().for_each(|pattern| groups.remove(pattern, route));
            changes.at_edges = true;
        }
        for (in_mesh, route) in one.translated() {
            for name in route.targets.keys() {
                changes.targets.insert(name.clone());
                let Some(known) = self.targets.get_mut(name) else { continue };
                *known.count(in_mesh) -= 1;
                if known.in_mesh + known.at_edges == 0 {
                    self.targets.remove(name);
                }
            }
        }
        for used in &one.uses {
            if let Some(dependents) = self.dependents.get_mut(used) {
                dependents.remove(owner);
                if dependents.is_empty() {
                    self.dependents.remove(used);
                }
            }
        }
        self.in_trouble.remove(owner);
    }
}

impl TargetUse {
    fn count(&mut self, in_mesh: bool) -> &mut usize {
        if in_mesh { &mut self.in_mesh } else { &mut self.at_edges }
    }
}

fn leave(callees: &mut BTreeMap<String, BTreeSet<ResourceKey>>, host: &str, owner: &ResourceKey) {
    if let Some(owners) = callees.get_mut(host) {
        owners.remove(owner);
        if owners.is_empty() {
            callees.remove(host);
        }
    }
}

fn route_key(id: &ResourceId) -> ResourceKey {
    ResourceKey::new(ResourceKind::Route, id.clone())
}
