//! Resources that are kept as they are written: what carries plugins, and what has no effect on
//! traffic yet.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use serde_json::{Map, Value};

use crate::error::DecodeError;
use crate::resources::{Change, Item};
use crate::{ResourceKey, ResourceKind};

/// The fields of such a resource, unchanged.
pub type KeptFields = Map<String, Value>;

/// All of them, of every kind, by key. A clone costs nothing.
#[derive(Debug, Clone)]
pub struct Kept {
    items: RedBlackTreeMapSync<ResourceKey, Item<KeptFields>>,
    /// Another pointer after each change.
    state: Arc<()>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { items: RedBlackTreeMapSync::new_sync(), state: Arc::new(()) }
    }
}

impl Kept {
    /// One of them.
    pub fn get(&self, key: &ResourceKey) -> Option<&Item<KeptFields>> {
        self.items.get(key)
    }

    /// Those of `kind`, in the order of their ids.
    pub fn of(&self, kind: ResourceKind) -> impl Iterator<Item = &Item<KeptFields>> {
        self.items.iter().filter(move |(key, _)| key.kind == kind).map(|(_, item)| item)
    }

    /// How many there are of all kinds.
    pub fn len(&self) -> usize {
        self.items.size()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether nothing was changed between the two; a clone is the same.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (ResourceKey, u64)> {
        self.items.iter().map(|(key, item)| (key.clone(), item.modified))
    }

    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), DecodeError> {
        let key = &change.key;
        self.state = Arc::new(());
        let fields = match &change.value {
            None => {
                self.items.remove_mut(key);
                return Ok(());
            }
            Some(Value::Object(fields)) => fields.clone(),
            Some(_) => return Err(DecodeError::new(".", "not an object")),
        };
        if fields.get("plugins").is_some_and(|plugins| !plugins.is_object()) {
            return Err(DecodeError::new("plugins", "not an object"));
        }
        if let Some(name) = required(key.kind).iter().find(|name| !fields.contains_key(**name)) {
            return Err(DecodeError::new(*name, "required"));
        }
        let (created, modified) = (change.created, change.modified);
        let item = Item { id: key.id.clone(), value: Arc::new(fields), created, modified };
        self.items.insert_mut(key.clone(), item);
        Ok(())
    }
}

fn required(kind: ResourceKind) -> &'static [&'static str] {
    match kind {
        ResourceKind::Consumer => &["username"],
        ResourceKind::ConsumerGroup | ResourceKind::PluginConfig | ResourceKind::GlobalRule => {
            &["plugins"]
        }
        ResourceKind::Proto => &["content"],
        _ => &[],
    }
}
