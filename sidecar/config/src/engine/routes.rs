//! Route tables by RDS in the engine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use weft_filters::config::{FieldError, decode};
use weft_xds_client::Resource;
use weft_xds_proto::Any;
use weft_xds_proto::pb::envoy::config::route::v3::RouteConfiguration;

use super::{Cx, Engine, Needs, compiler, stamp};
use crate::compile;

/// A route table that some listener uses.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The version that serves; its compiled form stands in the slot of its name.
    pub(super) active: Option<ActiveTable>,
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
        let config: RouteConfiguration = decode(&resource.body)?;
        let routes = compile::routes(&mut cx, &config)?;
        self.names.routes(&resource.name).set(Arc::new(routes));
        let active = ActiveTable {
            raw: Arc::clone(&resource.body),
            version: version.to_owned(),
            updated: stamp(),
        };
        self.tables.insert(resource.name.as_str().into(), Table { active: Some(active) });
        Ok(())
    }

    /// Keeps the tables that listeners use, makes room for new ones, and forgets the others.
    pub(super) fn sort_tables(&mut self) {
        self.wants_changed = true;
        let versions = self.listeners.values().flat_map(|entry| entry.live());
        let needs = versions.flat_map(|version| &version.value.needs.routes);
        let used: BTreeSet<Arc<str>> = needs.map(|need| Arc::clone(need.slot.name())).collect();
        let names = &mut self.names;
        self.tables.retain(|name, _| {
            let keep = used.contains(name);
            if !keep {
                names.routes(name).clear();
            }
            keep
        });
        for name in used {
            self.tables.entry(name).or_default();
        }
    }
}
