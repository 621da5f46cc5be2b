//! What other control planes of the same store know.
//!
//! Each says every few seconds that it is there, and its word ends by itself. The workloads of one that
//! is gone have a while to connect to another.

use std::time::Duration;

use weft_store::{Put, StoreError, Watch, WatchError};

use super::{PAUSE, Record, Saved, WORKLOADS};
use crate::MeshRegistry;

/// Where control planes say that they are there.
const CONTROL_PLANES: &str = "/weft/control_planes/";
/// How often.
const PERIOD: Duration = Duration::from_secs(5);
/// How long their word holds.
const HOLDS: Duration = Duration::from_secs(20);

impl Saved {
    /// Brings what others know into the registry, and tells them of this control plane, for ever.
    /// Workloads of one that is gone have `grace` to connect elsewhere.
    pub async fn share(&self, registry: &MeshRegistry, grace: Duration) {
        tokio::join!(self.be_there(), async {
            loop {
                if let Err(error) = self.follow_others(registry, grace).await {
                    tracing::debug!(%error, "other control planes are looked at anew");
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    async fn be_there(&self) {
        loop {
            let put = Put::new(format!("{CONTROL_PLANES}{}", self.owner), "{}");
            if let Err(error) = self.store.put(Put { ttl: Some(HOLDS), ..put }).await {
                tracing::warn!(%error, "other control planes can't be told of this one");
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Takes what there is, then what changes, until something was missed.
    async fn follow_others(
        &self,
        registry: &MeshRegistry,
        grace: Duration,
    ) -> Result<(), OthersError> {
        let (mut workloads, mut others) = self.take_all(registry, grace).await?;
        loop {
            tokio::select! {
                event = workloads.next() => {
                    let event = event?;
                    let id = event.key.trim_start_matches(WORKLOADS);
                    match event.entry.as_ref().map(Record::read) {
                        Some(Some(record)) => self.learn(record, registry),
                        Some(None) => {}
                        None => registry.forgotten(id),
                    }
                }
                event = others.next() => {
                    let event = event?;
                    let owner = event.key.trim_start_matches(CONTROL_PLANES);
                    match event.entry {
                        Some(_) => registry.owner_is_there(owner),
                        None => registry.owner_left(owner, grace),
                    }
                }
            }
        }
    }

    async fn take_all(
        &self,
        registry: &MeshRegistry,
        grace: Duration,
    ) -> Result<(Watch, Watch), OthersError> {
        let listing = self.store.list(WORKLOADS).await?;
        let there = self.store.list(CONTROL_PLANES).await?;
        let is_there = |owner: &str| {
            there.entries.iter().any(|one| one.key == format!("{CONTROL_PLANES}{owner}"))
        };
        let records: Vec<_> = listing.entries.iter().filter_map(Record::read).collect();
        registry.keep_others(|id| records.iter().any(|record| record.workload.id == id));
        for record in records {
            let owner = record.owner.clone();
            self.learn(record, registry);
            if !is_there(&owner) {
                registry.owner_left(&owner, grace);
            }
        }
        let workloads = self.store.watch(WORKLOADS, listing.revision)?;
        Ok((workloads, self.store.watch(CONTROL_PLANES, there.revision)?))
    }

    /// Records of its own tell it nothing.
    fn learn(&self, record: Record, registry: &MeshRegistry) {
        if *record.owner != *self.owner && !record.owner.is_empty() {
            registry.learned(record.workload, &record.owner);
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum OthersError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Watch(#[from] WatchError),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_store::{EmbeddedStore, Expect, Store};

    use super::super::tests::workload;
    use super::*;

    const GRACE: Duration = Duration::from_millis(1);

    /// A control plane: what it knows, and its part of the store.
    struct Other {
        saved: Saved,
        registry: MeshRegistry,
    }

    impl Other {
        fn new(store: &Arc<dyn Store>, name: &str) -> Self {
            let saved = Saved::new(Arc::clone(store), name);
            Self { saved, registry: MeshRegistry::new(GRACE) }
        }

        async fn work(&self) {
            let Self { saved, registry } = self;
            tokio::join!(saved.follow(registry), saved.share(registry, GRACE));
        }

        fn knows(&self, ids: &[&str]) -> bool {
            self.registry.expire();
            let all = self.registry.workloads();
            all.iter().map(|one| one.id.as_str()).eq(ids.iter().copied())
        }
    }

    /// Both do their work, unless the first has ended, until they know these workloads.
    async fn until(one: Option<&Other>, two: &Other, ids: &[&str]) {
        let known = async {
            // Each is asked: what has left is forgotten by asking.
            while ![one, Some(two)]
                .map(|other| other.is_none_or(|one| one.knows(ids)))
                .into_iter()
                .all(|knows| knows)
            {
                tokio::time::sleep(GRACE).await;
            }
        };
        let first = async {
            match one {
                Some(one) => one.work().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = known => {}
            () = first => {}
            () = two.work() => {}
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("never {ids:?}"),
        }
    }

    #[tokio::test]
    async fn workloads_of_one_control_plane_are_known_to_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = EmbeddedStore::open(&folder.path().join("weft.redb")).expect("a store");
        let store: Arc<dyn Store> = Arc::new(store);
        let (one, two) = (Other::new(&store, "one"), Other::new(&store, "two"));
        one.registry.connected(workload("a"));
        two.registry.connected(workload("b"));
        until(Some(&one), &two, &["a", "b"]).await;
        // One goes over to the other control plane, and is that one's from then on.
        one.registry.connected(workload("b"));
        let took_over = async {
            let mut watch = store.watch(WORKLOADS, 0).expect("a watch");
            loop {
                let event = watch.next().await.expect("an event");
                let record = event.entry.as_ref().and_then(Record::read);
                if record.is_some_and(|record| record.workload.id == "b" && record.owner == "one") {
                    return;
                }
            }
        };
        tokio::select! {
            () = took_over => {}
            () = one.work() => {}
            () = two.work() => {}
        }
        two.registry.disconnected("b");
        until(Some(&one), &two, &["a", "b"]).await;
        // What leaves the one is gone at the other.
        one.registry.disconnected("a");
        until(Some(&one), &two, &["b"]).await;
        // So is, after a while, all of a control plane that has ended.
        let key = format!("{CONTROL_PLANES}one");
        store.delete(&key, Expect::Anything).await.expect("deleted");
        until(None, &two, &[]).await;
    }
}
