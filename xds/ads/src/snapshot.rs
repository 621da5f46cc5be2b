//! What a server serves to one node.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use weft_xds_proto::{Any, ResourceType};

/// One resource with its version.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionedResource {
    /// Changes when, and only when, the body does.
    pub version: String,
    /// The message.
    pub body: Any,
}

/// All resources of one type for one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TypeResources {
    /// Version of the set; must change when any resource in it does.
    pub version: String,
    /// The resources by name.
    pub resources: BTreeMap<String, Arc<VersionedResource>>,
}

/// Everything for one node. Cloning copies one pointer for each type; a type whose pointer is
/// unchanged costs nothing when a new snapshot is pushed.
#[derive(Clone, Debug, Default)]
pub struct NodeResources {
    types: BTreeMap<ResourceType, Arc<TypeResources>>,
}

static EMPTY: LazyLock<Arc<TypeResources>> = LazyLock::new(Arc::default);

impl NodeResources {
    /// The resources of one type; an empty set when none were given.
    #[must_use]
    pub fn of(&self, kind: ResourceType) -> &Arc<TypeResources> {
        self.types.get(&kind).unwrap_or(&EMPTY)
    }

    /// Replaces the resources of one type.
    pub fn set(&mut self, kind: ResourceType, resources: Arc<TypeResources>) {
        self.types.insert(kind, resources);
    }

    /// The same snapshot with the resources of one type replaced.
    #[must_use]
    pub fn with(mut self, kind: ResourceType, resources: Arc<TypeResources>) -> Self {
        self.set(kind, resources);
        self
    }

    /// The types that were given, in push order.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceType, &Arc<TypeResources>)> {
        self.types.iter().map(|(kind, resources)| (*kind, resources))
    }
}
