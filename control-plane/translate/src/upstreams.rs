//! The clusters and endpoints of the upstreams, kept from one change to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use weft_control_model::{
    Collection, DiscoverError, Endpoints, MeshConfig, PeerAuthentication,
    Targets as NodesOrRegistry, Upstream,
};
use weft_xds_ads::{TypeResources, VersionedResource};

use crate::cluster;
use crate::contributions::Changes;
use crate::layer::{replace, versioned};
use crate::problem::{Problem, Unsupported};
use crate::settings::Inputs;
use crate::targets::Target;
use crate::translator::standing_clusters;

/// All upstreams that something leads to.
#[derive(Default)]
pub(crate) struct Upstreams {
    built: BTreeMap<String, Built>,
    /// Those whose endpoints a registry knows.
    discovered: BTreeSet<String>,
    /// Those with problems.
    in_trouble: BTreeSet<String>,
    settings: Option<(Arc<MeshConfig>, Collection<PeerAuthentication>, Policies)>,
    /// Those that sidecars are sent.
    pub(crate) mesh: Sent,
    /// Those that edges are sent.
    pub(crate) edge: Sent,
}

/// The upstreams that routes of one place lead to.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) clusters: Arc<TypeResources>,
    pub(crate) endpoints: Arc<TypeResources>,
}

/// An upstream with those who lead to it.
pub(crate) struct Wanted<'a> {
    pub(crate) target: &'a Target,
    pub(crate) in_mesh: bool,
    pub(crate) at_edges: bool,
}

/// The ids and revisions of the policies.
type Policies = Arc<[(String, u64)]>;

/// A translated upstream with what it was made of.
struct Built {
    upstream: Arc<Upstream>,
    endpoints: Endpoints,
    mesh: Arc<MeshConfig>,
    policies: Policies,
    cluster: Arc<VersionedResource>,
    assignment: Option<Arc<VersionedResource>>,
    problems: Vec<Problem>,
    in_mesh: bool,
    at_edges: bool,
}

impl Upstreams {
    /// Takes up what changed, and what the registry knows by now; whether anything is sent anew.
    pub(crate) fn update<'a>(
        &mut self,
        inputs: Inputs<'_>,
        changes: &Changes,
        find: impl Fn(&str) -> Option<Wanted<'a>>,
    ) -> bool {
        let (all, policies) = self.settle(inputs);
        let mut names: BTreeSet<_> = changes.targets.iter().chain(&self.discovered).collect();
        if all {
            names.extend(self.built.keys());
        }
        let names: Vec<_> = names.into_iter().cloned().collect();
        let mut changed = Vec::new();
        for name in names {
            let known = self.built.remove(&name);
            let before = known.as_ref().map(Built::sent);
            let Some(wanted) = find(&name) else {
                self.discovered.remove(&name);
                self.in_trouble.remove(&name);
                changed.push(name);
                continue;
            };
            let one = build(&wanted, inputs, &policies, known);
            self.note(&name, &wanted, &one);
            if before.is_none_or(|before| !before.is_same(&one.sent())) {
                changed.push(name.clone());
            }
            self.built.insert(name, one);
        }
        let (built, whole) = (&self.built, all || self.mesh.clusters.resources.is_empty());
        let mesh = self.mesh.take(built, &changed, whole, |one| one.in_mesh);
        let edge = self.edge.take(built, &changed, whole, |one| one.at_edges);
        mesh || edge
    }

    /// What of them is not served, or not as written.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        let built = self.in_trouble.iter().filter_map(|name| self.built.get(name));
        built.flat_map(|one| &one.problems)
    }

    /// How many endpoints a registry knows of a cluster.
    pub(crate) fn endpoints_behind(&self, cluster: &str) -> usize {
        self.built.get(cluster).map_or(0, |one| one.endpoints.len())
    }

    /// Whether what all of them depend on changed, and the policies.
    fn settle(&mut self, inputs: Inputs<'_>) -> (bool, Policies) {
        let (mesh, policies) = (&inputs.resources.mesh, &inputs.resources.peer_authentications);
        if let Some((known_mesh, known, fingerprint)) = &self.settings
            && Arc::ptr_eq(known_mesh, mesh)
            && known.is_same(policies)
        {
            return (false, Arc::clone(fingerprint));
        }
        let fingerprint = fingerprint(policies);
        self.settings = Some((Arc::clone(mesh), policies.clone(), Arc::clone(&fingerprint)));
        (true, fingerprint)
    }

    fn note(&mut self, name: &str, wanted: &Wanted<'_>, one: &Built) {
        let discovered = is_discovered(&wanted.target.upstream);
        for (set, holds) in
            [(&mut self.discovered, discovered), (&mut self.in_trouble, !one.problems.is_empty())]
        {
            if holds {
                set.insert(name.to_owned());
            } else {
                set.remove(name);
            }
        }
    }
}

/// What of an upstream is sent, and to whom.
struct AsSent {
    cluster: Arc<VersionedResource>,
    assignment: Option<Arc<VersionedResource>>,
    places: (bool, bool),
}

impl AsSent {
    fn is_same(&self, other: &Self) -> bool {
        let assignments = match (&self.assignment, &other.assignment) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        assignments && Arc::ptr_eq(&self.cluster, &other.cluster) && self.places == other.places
    }
}

impl Built {
    fn sent(&self) -> AsSent {
        AsSent {
            cluster: Arc::clone(&self.cluster),
            assignment: self.assignment.clone(),
            places: (self.in_mesh, self.at_edges),
        }
    }
}

impl Sent {
    /// Takes those of this place out of all, with the clusters that every node has; whether
    /// anything is another.
    fn take(
        &mut self,
        built: &BTreeMap<String, Built>,
        changed: &[String],
        whole: bool,
        is_here: impl Fn(&Built) -> bool,
    ) -> bool {
        let here = |name: &String| built.get(name).filter(|one| is_here(one));
        let concerned =
            |name: &String| here(name).is_some() || self.clusters.resources.contains_key(name);
        let changed: Vec<_> = changed.iter().filter(|name| concerned(name)).collect();
        if changed.is_empty() && !whole {
            return false;
        }
        let mut clusters = self.clusters.resources.clone();
        let mut endpoints = self.endpoints.resources.clone();
        for name in changed {
            clusters.remove(name);
            endpoints.remove(name);
            let Some(one) = here(name) else { continue };
            clusters.insert(name.clone(), Arc::clone(&one.cluster));
            endpoints.extend(one.assignment.iter().map(|body| (name.clone(), Arc::clone(body))));
        }
        for cluster in standing_clusters().iter().filter(|_| whole) {
            let known = self.clusters.resources.get(&cluster.name);
            clusters.insert(cluster.name.clone(), versioned(cluster, known));
        }
        let clusters = replace(&mut self.clusters, clusters);
        replace(&mut self.endpoints, endpoints) || clusters
    }
}

fn is_discovered(upstream: &Upstream) -> bool {
    matches!(&upstream.targets, NodesOrRegistry::Discovery(service) if service.registry != "dns")
}

/// Changes when any policy does.
fn fingerprint(policies: &Collection<PeerAuthentication>) -> Policies {
    policies.iter().map(|item| (item.id.to_string(), item.modified)).collect()
}

fn build(
    wanted: &Wanted<'_>,
    inputs: Inputs<'_>,
    policies: &Policies,
    known: Option<Built>,
) -> Built {
    let Wanted { target, in_mesh, at_edges } = *wanted;
    let mut problems = Vec::new();
    let endpoints = endpoints(target, inputs).unwrap_or_else(|error| {
        let field = error.to_string();
        let (field, reason) = field.split_once(": ").unwrap_or(("upstream", field.as_str()));
        problems.push(Unsupported::new(field, reason).of(&target.owner));
        no_endpoints()
    });
    let mesh = &inputs.resources.mesh;
    let reusable = known.as_ref().is_some_and(|known| {
        (Arc::ptr_eq(&known.upstream, &target.upstream) || known.upstream == target.upstream)
            && Arc::ptr_eq(&known.endpoints, &endpoints)
            && Arc::ptr_eq(&known.mesh, mesh)
            && known.policies == *policies
    });
    let known = match known {
        Some(known) if reusable => return Built { in_mesh, at_edges, ..known },
        known => known,
    };
    let translated = cluster::translate(target, &endpoints, inputs.resources);
    let ignored = translated.ignored.into_iter();
    problems.extend(ignored.map(|error| Problem { served: true, ..error.of(&target.owner) }));
    let (known_cluster, known_assignment) = match &known {
        Some(known) => (Some(&known.cluster), known.assignment.as_ref()),
        None => (None, None),
    };
    Built {
        upstream: Arc::clone(&target.upstream),
        endpoints,
        mesh: Arc::clone(mesh),
        policies: Arc::clone(policies),
        cluster: versioned(&translated.cluster, known_cluster),
        assignment: translated.assignment.map(|body| versioned(&body, known_assignment)),
        problems,
        in_mesh,
        at_edges,
    }
}

/// What a registry knows of an upstream; nothing for one whose nodes are written down.
fn endpoints(target: &Target, inputs: Inputs<'_>) -> Result<Endpoints, DiscoverError> {
    match &target.upstream.targets {
        NodesOrRegistry::Nodes(_) => Ok(no_endpoints()),
        NodesOrRegistry::Discovery(service) if service.registry == "dns" => Ok(no_endpoints()),
        NodesOrRegistry::Discovery(service) => {
            inputs.registry.endpoints(service, target.upstream.scheme)
        }
    }
}

/// One pointer for all clusters without endpoints of a registry.
fn no_endpoints() -> Endpoints {
    static NONE: LazyLock<Endpoints> = LazyLock::new(|| Endpoints::from([]));
    Arc::clone(&NONE)
}
