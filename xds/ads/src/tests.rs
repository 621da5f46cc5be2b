//! The two ends against each other.

mod demand;
mod exchanges;
mod lives;
mod random;

use std::{collections::BTreeMap, sync::Arc};

use weft_xds_proto::{
    Any, ResourceType, pack,
    pb::envoy::config::{
        cluster::v3::Cluster, core::v3::Node, endpoint::v3::ClusterLoadAssignment,
        listener::v3::Listener, route::v3::RouteConfiguration,
    },
};

use crate::{NodeResources, TypeResources, VersionedResource};

pub(crate) fn node() -> Node {
    Node { id: "n".into(), ..Default::default() }
}

/// A resource whose body depends on its content as well as its name.
pub(crate) fn body(kind: ResourceType, name: &str, content: u32) -> Any {
    let name = name.to_owned();
    match kind {
        ResourceType::Cluster => {
            pack(&Cluster { name, alt_stat_name: content.to_string(), ..Default::default() })
        }
        ResourceType::Listener => {
            pack(&Listener { name, stat_prefix: content.to_string(), ..Default::default() })
        }
        ResourceType::Endpoint => pack(&ClusterLoadAssignment {
            cluster_name: name,
            named_endpoints: [(content.to_string(), Default::default())].into(),
            ..Default::default()
        }),
        _ => pack(&RouteConfiguration {
            name,
            internal_only_headers: vec![content.to_string()],
            ..Default::default()
        }),
    }
}

/// Resources by type and name, with their content; the source of snapshots.
#[derive(Default)]
pub(crate) struct World {
    contents: BTreeMap<ResourceType, BTreeMap<String, u32>>,
    generation: u32,
    snapshot: NodeResources,
}

impl World {
    pub(crate) fn put(&mut self, kind: ResourceType, name: &str, content: u32) {
        self.contents.entry(kind).or_default().insert(name.into(), content);
        self.publish(kind);
    }

    pub(crate) fn remove(&mut self, kind: ResourceType, name: &str) {
        self.contents.entry(kind).or_default().remove(name);
        self.publish(kind);
    }

    pub(crate) fn snapshot(&self) -> &NodeResources {
        &self.snapshot
    }

    pub(crate) fn of(&self, kind: ResourceType) -> BTreeMap<String, u32> {
        self.contents.get(&kind).cloned().unwrap_or_default()
    }

    fn publish(&mut self, kind: ResourceType) {
        self.generation += 1;
        let versioned = |(name, content): (&String, &u32)| {
            let resource = VersionedResource {
                version: content.to_string(),
                body: body(kind, name, *content),
            };
            (name.clone(), Arc::new(resource))
        };
        let resources = TypeResources {
            version: self.generation.to_string(),
            resources: self.contents[&kind].iter().map(versioned).collect(),
            on_demand: None,
        };
        self.snapshot.set(kind, Arc::new(resources));
    }
}
