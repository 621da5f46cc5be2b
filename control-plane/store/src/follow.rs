//! The whole configuration, kept up to date from a store.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use weft_control_model::{Change, ResourceKey, Resources};

use crate::{Entry, Event, Store, StoreError, Watch, WatchError};

/// How long to wait after the store could not be read.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
/// The most changes that one round takes together.
const BATCH: usize = 512;

/// Keeps the typed resources of a store.
///
/// An item that can't be decoded is told apart under [`Follower::rejected`];
/// what was valid before keeps standing.
pub struct Follower {
    store: Arc<dyn Store>,
    watch: Option<Watch>,
    resources: Resources,
    rejected: BTreeMap<ResourceKey, String>,
}

impl Follower {
    /// Reads everything and follows from there.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn start(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let resources = Resources::default();
        let mut follower = Self { store, watch: None, resources, rejected: BTreeMap::new() };
        follower.resync().await?;
        Ok(follower)
    }

    /// The resources as of now; cheap.
    pub fn resources(&self) -> Resources {
        self.resources.clone()
    }

    /// Stored items that are no valid resources, with the reason.
    pub fn rejected(&self) -> &BTreeMap<ResourceKey, String> {
        &self.rejected
    }

    /// Waits for a change and applies all that are ready; their keys. May be
    /// cancelled without losing one. Reads anew when changes were missed; then
    /// the keys are those that differ.
    ///
    /// # Errors
    /// The store is closed.
    pub async fn changed(&mut self) -> Result<Vec<ResourceKey>, StoreError> {
        let Some(watch) = &mut self.watch else {
            return self.resync_at_last().await;
        };
        let mut events = match watch.next().await {
            Ok(event) => vec![event],
            Err(WatchError::Closed) => return Err(StoreError::Closed),
            Err(WatchError::Lagged | WatchError::Compacted(_)) => {
                self.watch = None;
                return self.resync_at_last().await;
            }
        };
        while events.len() < BATCH {
            match ready(watch) {
                Some(Ok(event)) => events.push(event),
                // An error is told once: the next round reads anew, or finds the store closed.
                Some(Err(WatchError::Lagged | WatchError::Compacted(_))) => {
                    self.watch = None;
                    break;
                }
                Some(Err(WatchError::Closed)) | None => break,
            }
        }
        Ok(events.iter().filter_map(|event| self.apply_event(event)).collect())
    }

    /// Tries until the store can be read; what is known stays meanwhile.
    async fn resync_at_last(&mut self) -> Result<Vec<ResourceKey>, StoreError> {
        loop {
            match self.resync().await {
                Err(StoreError::Closed) => return Err(StoreError::Closed),
                Err(error) => tracing::error!(%error, "can't read the store anew"),
                Ok(changed) => return Ok(changed),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn resync(&mut self) -> Result<Vec<ResourceKey>, StoreError> {
        loop {
            let listing = self.store.list("/").await?;
            match self.store.watch("/", listing.revision) {
                Ok(watch) => {
                    let changed = self.replace(&listing.entries);
                    self.resources.revision = self.resources.revision.max(listing.revision);
                    self.watch = Some(watch);
                    return Ok(changed);
                }
                Err(WatchError::Closed) => return Err(StoreError::Closed),
                // The history moved on while the list was read.
                Err(WatchError::Lagged | WatchError::Compacted(_)) => {}
            }
        }
    }

    /// Makes the resources those of `entries`.
    fn replace(&mut self, entries: &[Entry]) -> Vec<ResourceKey> {
        let known: BTreeMap<_, _> = self.resources.keys().collect();
        let mut present = HashSet::new();
        let mut changed = Vec::new();
        for entry in entries {
            let Some(key) = ResourceKey::parse(&entry.key) else { continue };
            if known.get(&key) != Some(&entry.modified) {
                self.put(&key, entry);
                changed.push(key.clone());
            }
            present.insert(key);
        }
        for key in known.into_keys().filter(|key| !present.contains(key)) {
            self.apply(&Change { key: key.clone(), value: None, created: 0, modified: 0 });
            changed.push(key);
        }
        self.rejected.retain(|key, _| present.contains(key));
        changed
    }

    fn apply_event(&mut self, event: &Event) -> Option<ResourceKey> {
        self.resources.revision = self.resources.revision.max(event.revision);
        let key = ResourceKey::parse(&event.key)?;
        match &event.entry {
            Some(entry) => self.put(&key, entry),
            None => {
                let modified = event.revision;
                self.apply(&Change { key: key.clone(), value: None, created: 0, modified });
            }
        }
        Some(key)
    }

    fn put(&mut self, key: &ResourceKey, entry: &Entry) {
        match serde_json::from_slice::<Value>(&entry.value) {
            Ok(value) => {
                let (created, modified) = (entry.created, entry.modified);
                self.apply(&Change { key: key.clone(), value: Some(value), created, modified });
            }
            Err(error) => self.reject(key, &error),
        }
    }

    fn apply(&mut self, change: &Change) {
        match self.resources.apply(change) {
            Ok(()) => drop(self.rejected.remove(&change.key)),
            Err(error) => self.reject(&change.key, &error),
        }
    }

    fn reject(&mut self, key: &ResourceKey, reason: &dyn std::fmt::Display) {
        tracing::warn!(%key, %reason, "a stored resource is invalid");
        self.rejected.insert(key.clone(), reason.to_string());
    }
}

/// A change that needs no waiting.
fn ready(watch: &mut Watch) -> Option<Result<Arc<Event>, WatchError>> {
    use futures_util::FutureExt;
    watch.next().now_or_never()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::{EmbeddedStore, Expect, Listing, Put, Revision, Written};

    fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = EmbeddedStore::open(&folder.path().join("weft.redb")).expect("a store");
        (folder, Arc::new(store))
    }

    #[tokio::test]
    async fn the_resources_follow_the_store() {
        let (_folder, store) = store();
        store.put(Put::new("/apisix/routes/1", r#"{"uri":"/a"}"#)).await.expect("written");
        let mut follower = Follower::start(Arc::clone(&store)).await.expect("started");
        assert_eq!(follower.resources().routes.len(), 1);
        store.put(Put::new("/apisix/routes/2", r#"{"uri":"/b"}"#)).await.expect("written");
        store.delete("/apisix/routes/1", Expect::Anything).await.expect("deleted");
        let mut keys = Vec::new();
        while keys.len() < 2 {
            keys.extend(follower.changed().await.expect("changes"));
        }
        let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(keys, ["/apisix/routes/2", "/apisix/routes/1"]);
        let ids: Vec<_> =
            follower.resources().routes.iter().map(|item| item.id.to_string()).collect();
        assert_eq!(ids, ["2"]);
    }

    #[tokio::test]
    async fn an_invalid_item_is_told_and_the_valid_one_stays() {
        let (_folder, store) = store();
        store.put(Put::new("/apisix/routes/1", r#"{"uri":"/a"}"#)).await.expect("written");
        let mut follower = Follower::start(Arc::clone(&store)).await.expect("started");
        store.put(Put::new("/apisix/routes/1", "no json")).await.expect("written");
        follower.changed().await.expect("a change");
        assert_eq!((follower.resources().routes.len(), follower.rejected().len()), (1, 1));
    }

    #[tokio::test]
    async fn missed_changes_are_read_anew() {
        let (_folder, store) = store();
        store.put(Put::new("/apisix/routes/1", r#"{"uri":"/a"}"#)).await.expect("written");
        let mut follower = Follower::start(Arc::clone(&store)).await.expect("started");
        store.put(Put::new("/apisix/routes/2", r#"{"uri":"/b"}"#)).await.expect("written");
        store.delete("/apisix/routes/1", Expect::Anything).await.expect("deleted");
        follower.watch = None;
        assert_eq!(follower.changed().await.expect("changes").len(), 2);
        assert_eq!(follower.resources().routes.len(), 1);
    }

    #[tokio::test]
    async fn changes_missed_behind_others_are_read_anew() {
        let (_folder, store) = store();
        let mut follower = Follower::start(Arc::clone(&store)).await.expect("started");
        store.put(Put::new("/apisix/routes/1", r#"{"uri":"/a"}"#)).await.expect("written");
        let event = follower.watch.as_mut().expect("a watch").next().await.expect("an event");
        let behind = [Ok(event), Err(WatchError::Lagged)];
        follower.watch = Some(Watch::new(Box::pin(futures_util::stream::iter(behind))));
        store.put(Put::new("/apisix/routes/2", r#"{"uri":"/b"}"#)).await.expect("written");
        assert_eq!(follower.changed().await.expect("the change that came").len(), 1);
        assert_eq!(follower.changed().await.expect("the one that was missed").len(), 1);
        assert_eq!(follower.resources().routes.len(), 2);
    }

    /// Fails the next list.
    struct Failing {
        inner: Arc<dyn Store>,
        fails: AtomicBool,
    }

    impl Store for Failing {
        fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
            self.inner.get(key)
        }

        fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, StoreError>> {
            if self.fails.swap(false, Ordering::Relaxed) {
                let error = StoreError::Engine("no permission".to_owned());
                return Box::pin(std::future::ready(Err(error)));
            }
            self.inner.list(prefix)
        }

        fn put(&self, put: Put) -> BoxFuture<'_, Result<Written, StoreError>> {
            self.inner.put(put)
        }

        fn delete<'a>(
            &'a self,
            key: &'a str,
            expect: Expect,
        ) -> BoxFuture<'a, Result<Option<Revision>, StoreError>> {
            self.inner.delete(key, expect)
        }

        fn watch(&self, prefix: &str, revision: Revision) -> Result<Watch, WatchError> {
            self.inner.watch(prefix, revision)
        }
    }

    #[tokio::test]
    async fn a_store_that_can_not_be_read_is_tried_again() {
        let (_folder, inner) = store();
        let failing = Arc::new(Failing { inner, fails: AtomicBool::new(false) });
        let store = Arc::clone(&failing) as Arc<dyn Store>;
        let mut follower = Follower::start(Arc::clone(&store)).await.expect("started");
        store.put(Put::new("/apisix/routes/1", r#"{"uri":"/a"}"#)).await.expect("written");
        follower.watch = None;
        failing.fails.store(true, Ordering::Relaxed);
        assert_eq!(follower.changed().await.expect("changes").len(), 1);
    }
}
