//! Envoy's messages as the runtime model, one file for each kind.

mod access_log;
mod address;
mod chain;
mod cluster;
mod data;
mod endpoint;
mod export;
mod extension;
mod listener;
mod local_reply;
mod manager;
mod mesh;
mod options;
mod route;
mod secret;
mod source;
mod tcp;
mod tls;
mod tracing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use weft_filters::FilterCx;
use weft_model::{ClusterSlot, Demand, NamedSlot, Routes, TrafficDirection};
use weft_telemetry::Registry;
use weft_xds_proto::pb::envoy::config::core::v3::Node;

pub(crate) use access_log::{access_logs, file_log};
pub(crate) use address::listen_address;
pub(crate) use cluster::{cluster, no_endpoints};
pub(crate) use endpoint::{assignment, place};
pub(crate) use extension::ExtensionUse;
pub(crate) use listener::{listener, name_of as listener_name};
pub(crate) use route::{LoneHost, assemble, hosts, lone_host};
pub(crate) use secret::{SecretSources, SecretValue, secret};
pub(crate) use source::{Server, Source, fetch};
pub(crate) use tls::{FileSecret, Held, SecretKey, TlsPlan};

/// What the compilation of one resource reads and leaves behind.
pub(crate) struct Cx<'a> {
    /// Places for what is referred to by name.
    pub(crate) names: &'a mut Names,
    /// Where statistics are registered.
    pub(crate) registry: &'a Registry,
    /// Who this proxy is.
    pub(crate) node: &'a Node,
    /// `cluster_manager.local_cluster_name`: the proxies that send as this one does.
    pub(crate) local_cluster: Option<&'a str>,
    /// Where secrets come from.
    pub(crate) secrets: &'a SecretSources,
    /// Where requests wait for what is fetched on demand.
    pub(crate) demand: &'a Arc<Demand>,
    /// Of a listener: which way its traffic goes.
    pub(crate) direction: TrafficDirection,
    /// What the resource has to wait for.
    pub(crate) needs: Needs,
}

impl<'a> Cx<'a> {
    /// What filters read of it; `stat_prefix` is that of the connection manager.
    fn for_filters<'b>(&'b self, stat_prefix: &'b str) -> FilterCx<'b> {
        FilterCx {
            node: self.node,
            registry: self.registry,
            stat_prefix,
            direction: self.direction,
        }
    }
}

/// What a listener or cluster needs before it can serve.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// TLS configurations, which may need secrets.
    pub(crate) tls: Vec<Arc<TlsPlan>>,
    /// Route tables by RDS.
    pub(crate) routes: Vec<NeededRoutes>,
    /// Filters by ECDS.
    pub(crate) extensions: Vec<Arc<ExtensionUse>>,
    /// Endpoints by EDS.
    pub(crate) endpoints: Option<NeededEndpoints>,
}

/// A route table that a listener waits for.
#[derive(Clone, Debug)]
pub(crate) struct NeededRoutes {
    /// Its place.
    pub(crate) slot: NamedSlot<Routes>,
    /// `initial_fetch_timeout`; `None`: for ever.
    pub(crate) timeout: Option<Duration>,
    /// Whether its user has missing clusters fetched (`odcds`).
    pub(crate) odcds: bool,
}

/// The endpoints that a cluster waits for.
#[derive(Clone, Debug)]
pub(crate) struct NeededEndpoints {
    /// `initial_fetch_timeout`; `None`: for ever.
    pub(crate) timeout: Option<Duration>,
}

/// Places for clusters and route tables, by name: whoever refers to one may come first.
#[derive(Debug, Default)]
pub(crate) struct Names {
    clusters: HashMap<Arc<str>, ClusterSlot>,
    routes: HashMap<Arc<str>, NamedSlot<Routes>>,
}

impl Names {
    /// The place of the cluster `name`.
    pub(crate) fn cluster(&mut self, name: &str) -> ClusterSlot {
        if let Some(slot) = self.clusters.get(name) {
            return slot.clone();
        }
        let slot = ClusterSlot::new(name);
        self.clusters.insert(Arc::clone(slot.name()), slot.clone());
        slot
    }

    /// The place of the route table `name`.
    pub(crate) fn routes(&mut self, name: &str) -> NamedSlot<Routes> {
        if let Some(slot) = self.routes.get(name) {
            return slot.clone();
        }
        let slot = NamedSlot::new(name);
        self.routes.insert(Arc::clone(slot.name()), slot.clone());
        slot
    }
}
