//! Filters by ECDS in the engine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use weft_filters::config::{FieldError, decode};
use weft_xds_client::Resource;
use weft_xds_proto::Any;
use weft_xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;

use super::{Engine, stamp};
use crate::compile::{ExtensionUse, Needs};

/// A filter's configuration that was accepted.
#[derive(Debug)]
pub(super) struct ActiveExtension {
    pub(super) raw: Arc<Any>,
    pub(super) version: String,
    pub(super) updated: SystemTime,
}

impl Engine {
    /// Compiles a filter for each of its places and swaps it in. Publishes nothing.
    pub(super) fn add_extension(
        &mut self,
        resource: &Resource,
        version: &str,
    ) -> Result<(), FieldError> {
        let uses = self.uses_of(&resource.name);
        if uses.is_empty() {
            return Ok(());
        }
        if let Some(active) = self.extensions.get_mut(resource.name.as_str())
            && active.raw == resource.body
        {
            version.clone_into(&mut active.version);
            return Ok(());
        }
        let compiled = typed_config(&resource.body).and_then(|config| {
            let each = uses.iter();
            each.map(|one| one.compile(&config, &self.bootstrap.node, &self.registry))
                .collect::<Result<Vec<_>, _>>()
        });
        match compiled {
            Err(error) => {
                uses.iter().for_each(|one| one.give_up());
                Err(error)
            }
            Ok(filters) => {
                uses.iter().zip(filters).for_each(|(one, filter)| one.put(filter));
                let active = ActiveExtension {
                    raw: Arc::clone(&resource.body),
                    version: version.to_owned(),
                    updated: stamp(),
                };
                self.extensions.insert(resource.name.as_str().into(), active);
                Ok(())
            }
        }
    }

    /// The control plane has no such filter.
    pub(super) fn no_extension(&mut self, name: &str) {
        self.extensions.remove(name);
        self.uses_of(name).iter().for_each(|one| one.do_without());
    }

    /// Gives a new listener's filters the configurations that are here already.
    pub(super) fn fill_extensions(&self, needs: &Needs) {
        for one in &needs.extensions {
            let Some(active) = self.extensions.get(&one.name) else { continue };
            let config = typed_config(&active.raw);
            let compiled = config
                .and_then(|config| one.compile(&config, &self.bootstrap.node, &self.registry));
            match compiled {
                Ok(filter) => one.put(filter),
                Err(error) => {
                    tracing::warn!(name = %one.name, %error, "a filter does not fit a new listener");
                    one.give_up();
                }
            }
        }
    }

    /// The names of the filters that listeners use.
    pub(super) fn extension_names(&self) -> BTreeSet<String> {
        self.extension_uses().map(|one| one.name.to_string()).collect()
    }

    /// Forgets what no listener uses any more.
    pub(super) fn sort_extensions(&mut self) {
        if !self.extensions.is_empty() {
            let used = self.extension_names();
            self.extensions.retain(|name, _| used.contains(&**name));
        }
    }

    fn extension_uses(&self) -> impl Iterator<Item = &Arc<ExtensionUse>> {
        let versions = self.listeners.values().flat_map(|entry| entry.live());
        versions.flat_map(|version| &version.value.needs.extensions)
    }

    fn uses_of(&self, name: &str) -> Vec<Arc<ExtensionUse>> {
        self.extension_uses().filter(|one| &*one.name == name).cloned().collect()
    }
}

fn typed_config(raw: &Any) -> Result<Any, FieldError> {
    let config: TypedExtensionConfig = decode(raw)?;
    config.typed_config.ok_or_else(|| FieldError::missing("typed_config"))
}
