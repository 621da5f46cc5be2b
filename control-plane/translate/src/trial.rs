//! Trying one resource out before it is stored.

use weft_control_model::{ResourceKey, ResourceKind, Resources, Service};

use crate::cluster;
use crate::edge::https_listener;
use crate::node::Families;
use crate::problem::Problem;
use crate::routes;
use crate::served::{Place, tcp_services};
use crate::settings::Settings;
use crate::streams::streams;
use crate::targets::{RouteContext, referenced};

/// The problems of one resource among `resources`: what keeps it from being served, and what of
/// it has no effect. Costs about as much as the resource alone.
pub fn problems_of(resources: &Resources, key: &ResourceKey, settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    match key.kind {
        ResourceKind::Route => {
            let Some(item) = resources.routes.get(&key.id) else { return problems };
            match RouteContext::of_route(resources, item) {
                Ok(context) => try_route(&context, settings, &mut problems),
                Err(error) => problems.push(error.of(key)),
            }
        }
        ResourceKind::Service => {
            let Some(item) = resources.services.get(&key.id) else { return problems };
            tcp_services(resources, &mut problems);
            if problems.is_empty() && is_http(&item.value) {
                try_route(&RouteContext::of_service(resources, item), settings, &mut problems);
            }
        }
        ResourceKind::Upstream => {
            let Ok(target) = referenced(resources, &key.id) else { return problems };
            let ignored = cluster::translate(&target, &[], resources).ignored;
            let ignored = ignored.into_iter().map(|error| error.of(key));
            problems.extend(ignored.map(|problem| Problem { served: true, ..problem }));
        }
        ResourceKind::Ssl => {
            let families = Families { v4: true, v6: false };
            https_listener(families, settings, resources, &mut problems);
        }
        ResourceKind::StreamRoute => {
            streams(resources, settings, &mut problems);
        }
        // Policies can't fail; the others have no effect on traffic yet.
        _ => {}
    }
    problems.retain(|problem| problem.key == *key);
    problems
}

/// Whether what a service says itself can be tried as a route's.
fn is_http(service: &Service) -> bool {
    !service.plugins.0.is_empty()
        && service.upstream.as_ref().is_none_or(|upstream| routes::carries_http(upstream))
}

fn try_route(context: &RouteContext<'_>, settings: &Settings, problems: &mut Vec<Problem>) {
    for place in [Place::Mesh, Place::Edge { over_tls: false }] {
        if let Err(error) = routes::translate(context, place, settings.edge_https_port) {
            problems.push(error.of(&context.key));
            return;
        }
    }
}
