//! Virtual hosts by VHDS in the engine: each comes by itself, into the table that its name says.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_filters::config::{FieldError, decode};
use weft_xds_client::Resource;
use weft_xds_proto::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use weft_xds_proto::{Any, pack};

use super::{Cx, Engine, Needs, compiler};
use crate::compile::{self, LoneHost};

/// What a table with `vhds` is put together from.
#[derive(Debug)]
pub(super) struct VhdsTable {
    /// The table without its virtual hosts.
    config: RouteConfiguration,
    /// The hosts that came with the table.
    own: Vec<LoneHost>,
    /// Those that came by themselves, by the names that they were asked for by.
    pub(super) hosts: BTreeMap<Arc<str>, FetchedHost>,
}

/// A virtual host that came by itself.
#[derive(Debug)]
pub(super) struct FetchedHost {
    pub(super) raw: Arc<Any>,
    pub(super) version: String,
    pub(super) compiled: LoneHost,
    /// Whether its clusters are asked for with it.
    with_clusters: bool,
}

impl VhdsTable {
    pub(super) fn new(config: RouteConfiguration, own: Vec<LoneHost>) -> Self {
        Self { config, own, hosts: BTreeMap::new() }
    }

    /// The table as it came with the hosts that came by themselves, as Envoy shows it.
    pub(super) fn merged(&self, table: &Any) -> Option<Any> {
        let mut table: RouteConfiguration = decode(table).ok()?;
        let hosts = self.hosts.values().filter_map(|host| decode::<VirtualHost>(&host.raw).ok());
        table.virtual_hosts.extend(hosts);
        Some(pack(&table))
    }

    /// All hosts as one table. One that was asked for by several names is there once.
    fn assemble(&self) -> Result<weft_model::Routes, FieldError> {
        let mut fetched: Vec<&FetchedHost> = Vec::with_capacity(self.hosts.len());
        for host in self.hosts.values() {
            let several = host.compiled.domains.len() > 1;
            if !(several && fetched.iter().any(|known| known.raw == host.raw)) {
                fetched.push(host);
            }
        }
        let fetched = fetched.into_iter().map(|host| &host.compiled);
        compile::assemble(&self.config, self.own.iter().chain(fetched))
    }
}

/// The table that a virtual host's name begins with.
pub(super) fn table_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(table, _)| table)
}

impl Engine {
    /// Compiles a virtual host and swaps it into its table. Publishes nothing.
    pub(super) fn add_host(
        &mut self,
        resource: &Resource,
        version: &str,
    ) -> Result<(), FieldError> {
        let Some(name) = self.demands.host(&resource.name) else { return Ok(()) };
        let Some(table) = self.tables.get_mut(table_of(&name)) else { return Ok(()) };
        let with_clusters = table.odcds;
        let Some(vhds) = &mut table.vhds else { return Ok(()) };
        if let Some(known) = vhds.hosts.get_mut(&name)
            && known.raw == resource.body
        {
            version.clone_into(&mut known.version);
            self.demands.host_is_there(&name);
            return Ok(());
        }
        let mut cx = compiler!(self);
        let config: VirtualHost = decode(&resource.body)?;
        let compiled = compile::lone_host(&mut cx, &vhds.config, &config)?;
        let clusters = compiled.clusters();
        let raw = Arc::clone(&resource.body);
        let host = FetchedHost { raw, version: version.to_owned(), compiled, with_clusters };
        let before = vhds.hosts.insert(Arc::clone(&name), host);
        match vhds.assemble() {
            Ok(routes) => self.names.routes(table_of(&name)).set(Arc::new(routes)),
            Err(error) => {
                vhds.hosts.remove(&name);
                vhds.hosts.extend(before.map(|before| (name, before)));
                return Err(error);
            }
        }
        self.demands.host_is_there(&name);
        if with_clusters {
            let known = |cluster: &Arc<str>| self.clusters.contains_key(cluster);
            self.demands.need_clusters(clusters, known);
        }
        self.leave_clusters(before.as_ref());
        Ok(())
    }

    /// There is no virtual host of this name, or no longer.
    pub(super) fn no_host(&mut self, name: &str) {
        self.demands.no_host(name);
        self.drop_host(name);
    }

    /// Takes a virtual host out of its table.
    pub(super) fn drop_host(&mut self, name: &str) {
        let Some(table) = self.tables.get_mut(table_of(name)) else { return };
        let Some(vhds) = &mut table.vhds else { return };
        let Some(gone) = vhds.hosts.remove(name) else { return };
        // With a host less it can be put together as it could with it.
        if let Ok(routes) = vhds.assemble() {
            self.names.routes(table_of(name)).set(Arc::new(routes));
        }
        self.leave_clusters(Some(&gone));
    }

    fn leave_clusters(&mut self, host: Option<&FetchedHost>) {
        let Some(host) = host.filter(|host| host.with_clusters) else { return };
        for cluster in self.demands.leave_clusters(host.compiled.clusters()) {
            self.remove_cluster(&cluster);
        }
    }

    /// A table is new or gone: the hosts that came by themselves move over, or are given up.
    pub(super) fn move_hosts(&mut self, name: &str, before: Option<VhdsTable>) {
        let stays = self.tables.get(name).is_some_and(|table| table.vhds.is_some());
        for (host, fetched) in before.into_iter().flat_map(|before| before.hosts) {
            if stays {
                let name = host.to_string();
                let body = Arc::clone(&fetched.raw);
                let resource = Resource { name, version: String::new(), body };
                if self.add_host(&resource, &fetched.version).is_err() {
                    self.demands.no_host(&host);
                }
            }
            self.leave_clusters(Some(&fetched));
        }
        if !stays {
            self.demands.leave_table(name);
        }
    }
}
