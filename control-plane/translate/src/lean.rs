//! What a sidecar is sent that asks for services when they are called: little, and the rest by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_xds_ads::TypeResources;

use crate::inbound;
use crate::layer::{LayerBuilder, replace, with_more};
use crate::node::{Inbound, InboundKinds};
use crate::translator::{MOST_SIDECAR_SETS, standing_clusters};
use crate::virtual_hosts::VirtualHosts;

/// The names of the clusters of servers that plugins ask begin with it.
const CALLOUTS: &str = "callout/";

/// What there is to be sent.
pub(crate) struct Source<'a> {
    pub(crate) mesh: &'a Arc<VirtualHosts>,
    pub(crate) clusters_of: &'a dyn Fn(&str) -> BTreeSet<String>,
    /// The clusters of the mesh.
    pub(crate) upstreams: &'a Arc<TypeResources>,
    pub(crate) revision: u64,
    pub(crate) generation: u64,
}

/// What was made for such sidecars, kept as long as it holds.
#[derive(Default)]
pub(crate) struct Lean {
    clusters: HashMap<(InboundKinds, Vec<String>), Clusters>,
    tables: HashMap<Vec<String>, (u64, Arc<TypeResources>)>,
    hosts: Option<(u64, Arc<TypeResources>)>,
}

struct Clusters {
    generation: u64,
    upstreams: Arc<TypeResources>,
    set: Arc<TypeResources>,
}

impl Lean {
    /// The clusters of the workload's own ports, those that everyone has, and those behind
    /// `hosts`; all others of the mesh by name.
    pub(crate) fn clusters(
        &mut self,
        inbound: &Inbound,
        hosts: &[String],
        source: &Source<'_>,
    ) -> Arc<TypeResources> {
        let key = (inbound.kinds(), hosts.to_vec());
        let known = self.clusters.get(&key);
        if let Some(known) = known
            && Arc::ptr_eq(&known.upstreams, source.upstreams)
            && (hosts.is_empty() || known.generation == source.generation)
        {
            return Arc::clone(&known.set);
        }
        let empty = TypeResources::default();
        let mut layer = LayerBuilder::over(known.map_or(&empty, |known| &known.set));
        for cluster in inbound::clusters(inbound).iter().chain(&standing_clusters()) {
            layer.add(&cluster.name, cluster);
        }
        let mut resources = layer.finish();
        for name in hosts.iter().flat_map(|host| (source.clusters_of)(host)) {
            let cluster = source.upstreams.resources.get(&name);
            resources.extend(cluster.map(|cluster| (name.clone(), Arc::clone(cluster))));
        }
        // Plugins do not wait for the clusters of the servers that they ask.
        let asked = source.upstreams.resources.range(CALLOUTS.to_owned()..);
        let asked = asked.take_while(|(name, _)| name.starts_with(CALLOUTS));
        resources.extend(asked.map(|(name, cluster)| (name.clone(), Arc::clone(cluster))));
        let upstreams = Arc::clone(source.upstreams);
        let set = with_more(resources, &upstreams.version, upstreams.clone());
        let generation = source.generation;
        if self.clusters.len() > MOST_SIDECAR_SETS {
            self.clusters.retain(|_, known| Arc::ptr_eq(&known.upstreams, &upstreams));
        }
        self.clusters.insert(key, Clusters { generation, upstreams, set: Arc::clone(&set) });
        set
    }

    /// The route tables: empty but for `hosts`.
    pub(crate) fn tables(&mut self, hosts: &[String], source: &Source<'_>) -> Arc<TypeResources> {
        if self.tables.len() > MOST_SIDECAR_SETS {
            self.tables.retain(|_, (generation, _)| *generation == source.generation);
        }
        let (generation, layer) = self.tables.entry(hosts.to_vec()).or_default();
        if *generation != source.generation {
            *generation = source.generation;
            let mut builder = LayerBuilder::over(layer);
            for table in source.mesh.tables_on_demand(hosts) {
                builder.add(&table.name, &table);
            }
            let resources = builder.finish();
            replace(layer, resources);
        }
        Arc::clone(layer)
    }

    /// Every virtual host, by name alone.
    pub(crate) fn hosts(&mut self, source: &Source<'_>) -> Arc<TypeResources> {
        match &self.hosts {
            Some((generation, hosts)) if *generation == source.generation => Arc::clone(hosts),
            _ => {
                let hosts: Arc<VirtualHosts> = Arc::clone(source.mesh);
                let set = Arc::new(TypeResources {
                    version: source.revision.to_string(),
                    resources: BTreeMap::new(),
                    on_demand: Some(hosts),
                });
                self.hosts = Some((source.generation, Arc::clone(&set)));
                set
            }
        }
    }
}
