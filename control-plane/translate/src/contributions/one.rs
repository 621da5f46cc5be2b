//! What one route adds, or a service without routes.

use std::collections::BTreeSet;

use weft_control_model::{ResourceId, ResourceKey, ResourceKind, Resources, Scope};

use crate::problem::{Problem, Unsupported};
use crate::routes::{self, TranslatedRoute};
use crate::served::{Place, is_tcp, ports};
use crate::settings::Settings;
use crate::targets::{RouteContext, of_service};

/// What it adds.
#[derive(Default)]
pub(super) struct Contribution {
    /// The hosts by which it is called; none means all.
    pub(super) hosts: Vec<String>,
    pub(super) mesh: Option<InMesh>,
    /// In the clear, over TLS.
    pub(super) edge: [Option<TranslatedRoute>; 2],
    /// The resources that it depends on besides its owner.
    pub(super) uses: BTreeSet<ResourceKey>,
    pub(super) problems: Vec<Problem>,
}

/// Where it is called in the mesh, and what happens then if that can be said.
pub(super) struct InMesh {
    pub(super) ports: Vec<u16>,
    pub(super) route: Option<TranslatedRoute>,
}

impl Contribution {
    /// What a route or service adds; nothing if it is not there or switched off.
    pub(super) fn of(
        resources: &Resources,
        owner: &ResourceKey,
        settings: &Settings,
        has_routes: bool,
    ) -> Option<Self> {
        if owner.kind == ResourceKind::Route {
            Self::of_route(resources, owner, settings)
        } else {
            Self::of_service(resources, owner, settings, has_routes)
        }
    }

    /// The hosts and ports by which the mesh calls it.
    pub(super) fn called(&self) -> Option<(Vec<String>, Vec<u16>)> {
        self.mesh.as_ref().map(|mesh| (self.hosts.clone(), mesh.ports.clone()))
    }

    /// The routes with where they are: in the mesh or at edges.
    pub(super) fn translated(&self) -> impl Iterator<Item = (bool, &TranslatedRoute)> {
        let mesh = self.mesh.iter().filter_map(|mesh| mesh.route.as_ref()).map(|one| (true, one));
        mesh.chain(self.edge.iter().flatten().map(|one| (false, one)))
    }

    fn of_route(resources: &Resources, owner: &ResourceKey, settings: &Settings) -> Option<Self> {
        let item = resources.routes.get(&owner.id).filter(|item| item.value.enabled)?;
        let mut one = Self::default();
        one.uses(ResourceKind::Service, item.value.service_id.as_ref());
        one.uses(ResourceKind::Upstream, item.value.upstream_id.as_ref());
        match RouteContext::of_route(resources, item) {
            Ok(context) => {
                if item.value.scope() != Scope::Edge {
                    one.add_to_mesh(&context, settings);
                }
                if item.value.scope() != Scope::Mesh {
                    one.add_to_edges(&context, settings);
                }
                one.note(&context);
            }
            Err(error) => one.problems.push(error.of(owner)),
        }
        Some(one)
    }

    fn of_service(
        resources: &Resources,
        owner: &ResourceKey,
        settings: &Settings,
        has_routes: bool,
    ) -> Option<Self> {
        let item = resources.services.get(&owner.id).filter(|_| !has_routes)?;
        let mut one = Self::default();
        one.uses(ResourceKind::Upstream, item.value.upstream_id.as_ref());
        match of_service(resources, item) {
            Ok(Some(target)) if !item.value.hosts.is_empty() && !is_tcp(&target) => {
                let context = RouteContext::of_service(resources, item);
                one.add_to_mesh(&context, settings);
                one.note(&context);
            }
            Ok(_) => {}
            Err(error) => one.problems.push(error.of(owner)),
        }
        Some(one)
    }

    fn uses(&mut self, kind: ResourceKind, id: Option<&ResourceId>) {
        self.uses.extend(id.map(|id| ResourceKey::new(kind, id.clone())));
    }

    fn add_to_mesh(&mut self, context: &RouteContext<'_>, settings: &Settings) {
        let translated = routes::translate(context, Place::Mesh, settings.edge_https_port);
        let route = self.known(translated, context);
        let ports = self.known(ports(context, &settings.service_ports), context);
        self.mesh = ports.map(|ports| InMesh { ports, route });
    }

    fn add_to_edges(&mut self, context: &RouteContext<'_>, settings: &Settings) {
        self.edge = [false, true].map(|over_tls| {
            let place = Place::Edge { over_tls };
            let translated = routes::translate(context, place, settings.edge_https_port);
            // A wrong label keeps a route from edges, too: it is not what its author meant.
            let translated = ports(context, &[]).and(translated);
            self.known(translated, context)
        });
    }

    /// The result, or nothing and a problem more.
    fn known<T>(
        &mut self,
        result: Result<T, Unsupported>,
        context: &RouteContext<'_>,
    ) -> Option<T> {
        result.map_err(|error| self.problems.push(error.of(&context.key))).ok()
    }

    /// Keeps in mind what it is called by and depends on.
    fn note(&mut self, context: &RouteContext<'_>) {
        context.hosts().clone_into(&mut self.hosts);
        if let Some(service) = context.service {
            self.uses(ResourceKind::Upstream, service.value.upstream_id.as_ref());
        }
        let targets = self.translated().flat_map(|(_, route)| route.targets.values());
        let owners = targets.map(|target| target.owner.clone());
        let owners: Vec<_> = owners.filter(|key| key.kind == ResourceKind::Upstream).collect();
        self.uses.extend(owners);
    }
}
