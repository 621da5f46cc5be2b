//! Route tables by RDS in the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use weft_filters::config::{FieldError, decode};
use weft_xds_client::Resource;
use weft_xds_proto::Any;
use weft_xds_proto::pb::envoy::config::route::v3::RouteConfiguration;

use super::hosts::VhdsTable;
use super::{Cx, Engine, Needs, compiler, stamp};
use crate::compile;

/// A route table that some listener uses.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The version that serves; its compiled form stands in the slot of its name.
    pub(super) active: Option<ActiveTable>,
    /// The virtual hosts besides, where there is `vhds`.
    pub(super) vhds: Option<VhdsTable>,
    /// Whether its users have missing clusters fetched.
    pub(super) odcds: bool,
}

/// A route table that serves.
#[derive(Debug)]
pub(super) struct ActiveTable {
    pub(super) raw: Arc<Any>,
    pub(super) version: String,
    pub(super) updated: SystemTime,
}

impl Engine {
    /// Compiles a route table and swaps it into its place. Publishes nothing.
    pub(super) fn add_table(
        &mut self,
        resource: &Resource,
        version: &str,
    ) -> Result<(), FieldError> {
        let Some(table) = self.tables.get_mut(resource.name.as_str()) else { return Ok(()) };
        if let Some(active) = &mut table.active
            && active.raw == resource.body
        {
            version.clone_into(&mut active.version);
            return Ok(());
        }
        let mut cx = compiler!(self);
        let mut config: RouteConfiguration = decode(&resource.body)?;
        let hosts = compile::hosts(&mut cx, &config)?;
        let routes = compile::assemble(&config, hosts.iter())?;
        config.virtual_hosts = Vec::new();
        let vhds = config.vhds.is_some().then(|| VhdsTable::new(config, hosts));
        self.names.routes(&resource.name).set(Arc::new(routes));
        let active = ActiveTable {
            raw: Arc::clone(&resource.body),
            version: version.to_owned(),
            updated: stamp(),
        };
        let table = self.tables.entry(resource.name.as_str().into()).or_default();
        let before = std::mem::replace(&mut table.vhds, vhds);
        table.active = Some(active);
        self.move_hosts(&resource.name, before);
        Ok(())
    }

    /// Keeps the tables that listeners use, makes room for new ones, and forgets the others.
    pub(super) fn sort_tables(&mut self) {
        self.wants_changed = true;
        let versions = self.listeners.values().flat_map(|entry| entry.live());
        let needs = versions.flat_map(|version| &version.value.needs.routes);
        let mut used: BTreeMap<Arc<str>, bool> = BTreeMap::new();
        for need in needs {
            *used.entry(Arc::clone(need.slot.name())).or_default() |= need.odcds;
        }
        let left: Vec<_> =
            self.tables.keys().filter(|name| !used.contains_key(*name)).cloned().collect();
        for name in left {
            self.names.routes(&name).clear();
            let table = self.tables.remove(&name);
            self.move_hosts(&name, table.and_then(|table| table.vhds));
        }
        for (name, odcds) in used {
            self.tables.entry(name).or_default().odcds = odcds;
        }
    }
}
