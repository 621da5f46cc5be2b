//! What is there for connections that are no HTTP, and the upstreams of everything by name.

use std::collections::HashMap;

use weft_control_model::Resources;

use crate::contributions::Contributions;
use crate::problem::Problem;
use crate::served::{TcpService, tcp_services};
use crate::settings::Settings;
use crate::streams::{Stream, streams};
use crate::targets::Target;
use crate::upstreams::Wanted;

/// What is there for connections that are no HTTP, with what is not served of it.
#[derive(Default)]
pub(crate) struct Tcp {
    /// In the mesh.
    pub(crate) services: Vec<TcpService>,
    /// At edges.
    pub(crate) streams: Vec<Stream>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) by_cluster: HashMap<String, OfCluster>,
}

/// The last service and the last stream route that lead to a cluster.
#[derive(Default)]
pub(crate) struct OfCluster {
    service: Option<usize>,
    stream: Option<usize>,
}

impl Tcp {
    /// All of it.
    pub(crate) fn of(resources: &Resources, settings: &Settings) -> Self {
        let mut problems = Vec::new();
        let services = tcp_services(resources, &mut problems);
        let streams = streams(resources, settings, &mut problems);
        let mut by_cluster: HashMap<String, OfCluster> = HashMap::new();
        for (index, service) in services.iter().enumerate() {
            by_cluster.entry(service.target.cluster.clone()).or_default().service = Some(index);
        }
        for (index, stream) in streams.iter().enumerate() {
            by_cluster.entry(stream.target.cluster.clone()).or_default().stream = Some(index);
        }
        Self { services, streams, problems, by_cluster }
    }

    /// The upstreams that it leads to.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        let services = self.services.iter().map(|service| &service.target);
        services.chain(self.streams.iter().map(|stream| &stream.target))
    }
}

/// An upstream of a route or of connections, by its cluster's name; whether sidecars and edges
/// lead to it.
pub(crate) fn find<'a>(
    contributions: &'a Contributions,
    tcp: &'a Tcp,
    name: &str,
) -> Option<Wanted<'a>> {
    let of_tcp = tcp.by_cluster.get(name);
    let service = of_tcp.and_then(|one| Some(&tcp.services[one.service?].target));
    let stream = of_tcp.and_then(|one| Some(&tcp.streams[one.stream?].target));
    let of_routes = contributions.targets.get(name);
    let target = of_routes.map(|one| &one.target).or(service).or(stream)?;
    Some(Wanted {
        target,
        in_mesh: service.is_some() || of_routes.is_some_and(|one| one.in_mesh > 0),
        at_edges: stream.is_some() || of_routes.is_some_and(|one| one.at_edges > 0),
    })
}
