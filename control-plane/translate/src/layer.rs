//! Sets of resources that keep what did not change.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_xds_ads::{OnDemand, TypeResources, VersionedResource};
use weft_xds_proto::{Any, Message, Name, pack};
use xxhash_rust::xxh64::{Xxh64, xxh64};

pub(crate) type ResourceMap = BTreeMap<String, Arc<VersionedResource>>;

/// The message under a version that depends on its content alone, so that a restarted control
/// plane gives the same. An equal `known` is kept.
pub(crate) fn versioned<M: Message + Name>(
    message: &M,
    known: Option<&Arc<VersionedResource>>,
) -> Arc<VersionedResource> {
    let body = pack(message);
    match known {
        Some(known) if known.body == body => Arc::clone(known),
        _ => Arc::new(VersionedResource { version: version_of(&body), body }),
    }
}

fn version_of(body: &Any) -> String {
    format!("{:016x}", xxh64(&body.value, 0))
}

/// Collects the resources of one type, keeping the pointers of an older set.
pub(crate) struct LayerBuilder<'a> {
    known: &'a TypeResources,
    resources: ResourceMap,
}

impl<'a> LayerBuilder<'a> {
    pub(crate) fn over(known: &'a TypeResources) -> Self {
        Self { known, resources: ResourceMap::new() }
    }

    pub(crate) fn add<M: Message + Name>(&mut self, name: &str, message: &M) {
        let resource = versioned(message, self.known.resources.get(name));
        self.resources.insert(name.to_owned(), resource);
    }

    pub(crate) fn finish(self) -> ResourceMap {
        self.resources
    }
}

/// Makes `layer` hold `resources`; without a difference it stays the same pointer. Whether there
/// was one.
pub(crate) fn replace(layer: &mut Arc<TypeResources>, resources: ResourceMap) -> bool {
    let same = layer.resources.len() == resources.len()
        && layer
            .resources
            .iter()
            .zip(&resources)
            .all(|((old, a), (new, b))| old == new && (Arc::ptr_eq(a, b) || a == b));
    let differs = !same || layer.version.is_empty();
    if differs {
        *layer = Arc::new(TypeResources {
            version: set_version(&resources),
            resources,
            on_demand: None,
        });
    }
    differs
}

/// A set of these resources, with more for who asks by name; `more` tells what that is.
pub(crate) fn with_more(
    resources: ResourceMap,
    more: &str,
    on_demand: Arc<dyn OnDemand>,
) -> Arc<TypeResources> {
    let version = format!("{}.{more}", set_version(&resources));
    Arc::new(TypeResources { version, resources, on_demand: Some(on_demand) })
}

/// Two layers as one set, `over` winning.
pub(crate) fn joined(base: &TypeResources, over: ResourceMap) -> Arc<TypeResources> {
    let mut resources = base.resources.clone();
    resources.extend(over);
    Arc::new(TypeResources { version: set_version(&resources), resources, on_demand: None })
}

fn set_version(resources: &ResourceMap) -> String {
    let mut hash = Xxh64::new(0);
    for (name, resource) in resources {
        for part in [name.as_str(), "\0", resource.version.as_str(), "\0"] {
            hash.update(part.as_bytes());
        }
    }
    format!("{:016x}", hash.digest())
}
