//! What a server serves to one node.

use std::{
    collections::BTreeMap,
    fmt,
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

/// Resources that are not announced, but given to who asks for them by name.
pub trait OnDemand: fmt::Debug + Send + Sync {
    /// The resource of this name.
    fn find(&self, name: &str) -> Option<Arc<VersionedResource>>;
}

impl OnDemand for TypeResources {
    fn find(&self, name: &str) -> Option<Arc<VersionedResource>> {
        self.named(name)
    }
}

/// All resources of one type for one node.
#[derive(Clone, Debug, Default)]
pub struct TypeResources {
    /// Version of the set; must change when any resource in it does.
    pub version: String,
    /// The resources by name.
    pub resources: BTreeMap<String, Arc<VersionedResource>>,
    /// What there is besides for who asks for it by name.
    pub on_demand: Option<Arc<dyn OnDemand>>,
}

impl TypeResources {
    /// The resource that who asks for this name is given.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Arc<VersionedResource>> {
        match self.resources.get(name) {
            Some(resource) => Some(Arc::clone(resource)),
            None => self.on_demand.as_ref()?.find(name),
        }
    }
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
