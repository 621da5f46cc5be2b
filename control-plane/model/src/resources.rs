//! The whole configuration as immutable, persistent maps.

use std::collections::BTreeSet;
use std::sync::Arc;

use rpds::{QueueSync, RedBlackTreeMapSync};
use serde_json::Value;

use crate::error::DecodeError;
use crate::kept::Kept;
use crate::{
    AuthorizationPolicy, MeshConfig, PeerAuthentication, ResourceId, ResourceKey, ResourceKind,
    Route, Service, Ssl, Upstream,
};

/// A resource with its place in the store's history.
#[derive(Debug)]
pub struct Item<T> {
    /// The id within its kind.
    pub id: ResourceId,
    /// The typed view.
    pub value: Arc<T>,
    /// The store's revision at which it was created; orders equal resources.
    pub created: u64,
    /// The store's revision of its last change.
    pub modified: u64,
}

impl<T> Clone for Item<T> {
    fn clone(&self) -> Self {
        Self {
            id: self.id.clone(),
            value: Arc::clone(&self.value),
            created: self.created,
            modified: self.modified,
        }
    }
}

/// The most changes that a collection remembers: more than come together.
const REMEMBERED: usize = 1024;

/// All resources of one kind, by id. A clone costs nothing, and a change
/// shares with the older version all that it doesn't touch.
#[derive(Debug)]
pub struct Collection<T> {
    items: RedBlackTreeMapSync<ResourceId, Item<T>>,
    /// The last changes, each with the state that it led to.
    changes: QueueSync<(State, ResourceId)>,
    state: State,
}

/// A state of a collection: two are the same if it is the same pointer.
type State = Arc<()>;

impl<T> Clone for Collection<T> {
    fn clone(&self) -> Self {
        let (items, changes) = (self.items.clone(), self.changes.clone());
        Self { items, changes, state: Arc::clone(&self.state) }
    }
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        let (items, changes) = (RedBlackTreeMapSync::new_sync(), QueueSync::new_sync());
        Self { items, changes, state: Arc::new(()) }
    }
}

impl<T> Collection<T> {
    /// The resource `id`.
    pub fn get(&self, id: &ResourceId) -> Option<&Item<T>> {
        self.items.get(id)
    }

    /// All, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Item<T>> {
        self.items.values()
    }

    /// How many there are.
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

    /// The ids that were written or deleted since `older`, each once. Costs what changed; if that
    /// is more than is remembered, or `older` is no older state of this one, what there is.
    pub fn changed_since(&self, older: &Self) -> BTreeSet<ResourceId> {
        if self.is_same(older) {
            return BTreeSet::new();
        }
        let known = self.changes.iter().position(|(state, _)| Arc::ptr_eq(state, &older.state));
        if let Some(known) = known {
            return self.changes.iter().skip(known + 1).map(|(_, id)| id.clone()).collect();
        }
        let differs = |item: &&Item<T>| {
            let same = |other: &Item<T>| {
                Arc::ptr_eq(&item.value, &other.value) && item.modified == other.modified
            };
            !older.get(&item.id).is_some_and(same)
        };
        let changed = self.iter().filter(differs);
        let gone = older.iter().filter(|item| self.get(&item.id).is_none());
        changed.chain(gone).map(|item| item.id.clone()).collect()
    }

    fn keys(&self, kind: ResourceKind) -> impl Iterator<Item = (ResourceKey, u64)> {
        self.iter().map(move |item| (ResourceKey::new(kind, item.id.clone()), item.modified))
    }

    fn insert(&mut self, item: Item<T>) {
        self.remember(item.id.clone());
        self.items.insert_mut(item.id.clone(), item);
    }

    fn remove(&mut self, id: &ResourceId) {
        self.remember(id.clone());
        self.items.remove_mut(id);
    }

    fn remember(&mut self, id: ResourceId) {
        self.state = Arc::new(());
        self.changes.enqueue_mut((Arc::clone(&self.state), id));
        if self.changes.len() > REMEMBERED {
            self.changes.dequeue_mut();
        }
    }
}

/// The whole configuration at one revision of the store.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// `/apisix/routes`
    pub routes: Collection<Route>,
    /// `/apisix/services`
    pub services: Collection<Service>,
    /// `/apisix/upstreams`
    pub upstreams: Collection<Upstream>,
    /// `/apisix/ssls`
    pub ssls: Collection<Ssl>,
    /// `/weft/peer_authentications`
    pub peer_authentications: Collection<PeerAuthentication>,
    /// `/weft/authorization_policies`
    pub authorization_policies: Collection<AuthorizationPolicy>,
    /// Consumers, rules and all else whose JSON is not looked into here.
    pub kept: Kept,
    /// `/weft/mesh/default`
    pub mesh: Arc<MeshConfig>,
    /// The revision of the last change of `mesh`; 0 while it is the default.
    pub mesh_modified: u64,
    /// The revision of the last applied change.
    pub revision: u64,
}

/// One change of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What changed.
    pub key: ResourceKey,
    /// The new value; `None` means that it was deleted.
    pub value: Option<Value>,
    /// The revision at which it was created.
    pub created: u64,
    /// The revision of this change.
    pub modified: u64,
}

impl Resources {
    /// The key of everything stored with the revision of its last change.
    pub fn keys(&self) -> impl Iterator<Item = (ResourceKey, u64)> {
        self.routes
            .keys(ResourceKind::Route)
            .chain(self.services.keys(ResourceKind::Service))
            .chain(self.upstreams.keys(ResourceKind::Upstream))
            .chain(self.ssls.keys(ResourceKind::Ssl))
            .chain(self.peer_authentications.keys(ResourceKind::PeerAuthentication))
            .chain(self.authorization_policies.keys(ResourceKind::AuthorizationPolicy))
            .chain(self.kept.keys())
            .chain((self.mesh_modified > 0).then(|| (ResourceKey::mesh(), self.mesh_modified)))
    }

    /// Applies one change.
    ///
    /// # Errors
    /// The new value is no valid resource: what was before keeps standing,
    /// the revision moves on.
    pub fn apply(&mut self, change: &Change) -> Result<(), DecodeError> {
        self.revision = self.revision.max(change.modified);
        match change.key.kind {
            ResourceKind::Route => put(&mut self.routes, change, Route::from_json),
            ResourceKind::Service => put(&mut self.services, change, Service::from_json),
            ResourceKind::Upstream => put(&mut self.upstreams, change, Upstream::from_json),
            ResourceKind::Ssl => put(&mut self.ssls, change, Ssl::from_json),
            ResourceKind::PeerAuthentication => {
                put(&mut self.peer_authentications, change, PeerAuthentication::from_json)
            }
            ResourceKind::AuthorizationPolicy => {
                put(&mut self.authorization_policies, change, AuthorizationPolicy::from_json)
            }
            ResourceKind::Mesh => {
                let mesh = change.value.as_ref().map(MeshConfig::from_json).transpose()?;
                self.mesh_modified = mesh.as_ref().map_or(0, |_| change.modified);
                self.mesh = Arc::new(mesh.unwrap_or_default());
                Ok(())
            }
            ResourceKind::StreamRoute
            | ResourceKind::Consumer
            | ResourceKind::Credential
            | ResourceKind::ConsumerGroup
            | ResourceKind::PluginConfig
            | ResourceKind::GlobalRule
            | ResourceKind::PluginMetadata
            | ResourceKind::Proto
            | ResourceKind::Secret => self.kept.apply(change),
        }
    }
}

fn put<T>(
    collection: &mut Collection<T>,
    change: &Change,
    decode: impl FnOnce(&Value) -> Result<T, DecodeError>,
) -> Result<(), DecodeError> {
    let id = &change.key.id;
    let Some(json) = &change.value else {
        collection.remove(id);
        return Ok(());
    };
    let value = Arc::new(decode(json)?);
    let (created, modified) = (change.created, change.modified);
    collection.insert(Item { id: id.clone(), value, created, modified });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(revision: u64, value: Option<Value>) -> Change {
        let key = ResourceKey::parse("/apisix/routes/1").expect("a key");
        Change { key, value, created: 1, modified: revision }
    }

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut resources = Resources::default();
        resources.apply(&change(1, Some(json!({"uri": "/a"})))).expect("valid");
        let before = resources.clone();
        resources.apply(&change(2, None)).expect("a deletion");
        assert_eq!((before.routes.len(), resources.routes.len()), (1, 0));
        assert_eq!((before.revision, resources.revision), (1, 2));
    }

    fn put(resources: &mut Resources, id: &str, revision: u64) {
        let key = ResourceKey::parse(&format!("/apisix/routes/{id}")).expect("a key");
        let value = Some(json!({"uri": "/"}));
        let change = Change { key, value, created: revision, modified: revision };
        resources.apply(&change).expect("valid");
    }

    #[test]
    fn a_collection_tells_what_changed_since_an_older_state() {
        let mut resources = Resources::default();
        (0..3000).for_each(|id| put(&mut resources, &id.to_string(), id + 1));
        let before = resources.clone();
        let since = |resources: &Resources| -> Vec<_> {
            let changed = resources.routes.changed_since(&before.routes);
            changed.iter().map(ToString::to_string).collect()
        };
        assert!(since(&resources).is_empty());
        put(&mut resources, "7", 4000);
        put(&mut resources, "7", 4001);
        put(&mut resources, "new", 4002);
        assert_eq!(since(&resources), ["7", "new"]);
        // More than is remembered, and what has nothing in common.
        (0..3000).for_each(|revision| put(&mut resources, "7", 5000 + revision));
        assert_eq!(since(&resources), ["7", "new"]);
        assert_eq!(Resources::default().routes.changed_since(&before.routes).len(), 3000);
    }

    #[test]
    fn an_invalid_value_leaves_the_one_before() {
        let mut resources = Resources::default();
        resources.apply(&change(1, Some(json!({"uri": "/a"})))).expect("valid");
        assert!(resources.apply(&change(2, Some(json!({"uri": 1})))).is_err());
        let route = resources.routes.iter().next().expect("the route");
        assert_eq!((route.value.uris[0].as_str(), route.modified), ("/a", 1));
    }
}
