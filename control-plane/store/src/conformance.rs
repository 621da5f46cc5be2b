//! What every store must do, whatever its engine.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use crate::{Expect, Follower, Put, Store, StoreError, WatchError};

/// Runs the whole contract against an empty store.
pub(crate) async fn all(store: Arc<dyn Store>) {
    reads_see_writes(&*store).await;
    demands_are_kept(&*store).await;
    lists_are_ordered_and_end_at_their_prefix(&*store).await;
    watchers_see_each_change_once(&*store).await;
    ids_are_unique_and_padded(&*store).await;
    bursts_are_coalesced_and_none_is_lost(&store).await;
}

async fn reads_see_writes(store: &dyn Store) {
    assert_eq!(store.get("/apisix/c/a").await.expect("read"), None);
    let first = store.put(Put::new("/apisix/c/a", "1")).await.expect("written");
    assert_eq!(first.created, first.revision);
    let second = store.put(Put::new("/apisix/c/a", "2")).await.expect("written");
    assert!(second.revision > first.revision);
    assert_eq!(second.created, first.created);
    let entry = store.get("/apisix/c/a").await.expect("read").expect("there");
    assert_eq!((entry.created, entry.modified), (first.revision, second.revision));
    assert_eq!(entry.value.as_ref(), b"2");
    let deleted = store.delete("/apisix/c/a", Expect::Anything).await.expect("deleted");
    assert!(deleted.expect("it was there") > second.revision);
    assert_eq!(store.get("/apisix/c/a").await.expect("read"), None);
    assert_eq!(store.delete("/apisix/c/a", Expect::Anything).await.expect("nothing"), None);
}

async fn demands_are_kept(store: &dyn Store) {
    let put = |expect| Put { expect, ..Put::new("/apisix/d/a", "1") };
    let conflict = |result| matches!(result, Err(StoreError::Conflict));
    assert!(conflict(store.put(put(Expect::Unchanged(1))).await));
    let written = store.put(put(Expect::Absent)).await.expect("written");
    assert!(conflict(store.put(put(Expect::Absent)).await));
    let next = store.put(put(Expect::Unchanged(written.revision))).await.expect("written");
    assert!(conflict(store.put(put(Expect::Unchanged(written.revision))).await));
    let stale = store.delete("/apisix/d/a", Expect::Unchanged(written.revision)).await;
    assert!(matches!(stale, Err(StoreError::Conflict)));
    let deleted = store.delete("/apisix/d/a", Expect::Unchanged(next.revision)).await;
    assert!(deleted.expect("deleted").is_some());
}

async fn lists_are_ordered_and_end_at_their_prefix(store: &dyn Store) {
    for key in ["/apisix/l/b", "/apisix/l/a", "/apisix/l2/c", "/apisix/l/c/d"] {
        store.put(Put::new(key, "1")).await.expect("written");
    }
    let listing = store.list("/apisix/l/").await.expect("listed");
    let keys: Vec<_> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["/apisix/l/a", "/apisix/l/b", "/apisix/l/c/d"]);
    assert!(listing.entries.iter().all(|entry| entry.modified <= listing.revision));
}

async fn watchers_see_each_change_once(store: &dyn Store) {
    let start = store.list("/apisix/w/").await.expect("listed").revision;
    let first = store.put(Put::new("/apisix/w/a", "1")).await.expect("written");
    let mut watch = store.watch("/apisix/w/", start).expect("watched");
    store.put(Put::new("/apisix/other", "1")).await.expect("written");
    store.delete("/apisix/w/a", Expect::Anything).await.expect("deleted");
    let event = watch.next().await.expect("an event");
    assert_eq!((event.key.as_str(), event.revision), ("/apisix/w/a", first.revision));
    assert_eq!(event.entry.as_ref().expect("a value").value.as_ref(), b"1");
    let event = watch.next().await.expect("an event");
    assert_eq!((event.key.as_str(), &event.entry), ("/apisix/w/a", &None));
    let ahead = store.watch("/apisix/w/", event.revision).map(|_| ());
    assert!(matches!(ahead, Ok(()) | Err(WatchError::Compacted(_))));
}

async fn ids_are_unique_and_padded(store: &dyn Store) {
    let first = store.new_id().await.expect("an id");
    let second = store.new_id().await.expect("an id");
    assert!(first.len() == 20 && first.bytes().all(|byte| byte.is_ascii_digit()), "{first}");
    assert!(first < second);
}

/// Also by one who didn't look while it went on.
async fn bursts_are_coalesced_and_none_is_lost(store: &Arc<dyn Store>) {
    const BURST: usize = 10_000;
    let mut follower = Follower::start(Arc::clone(store)).await.expect("started");
    let mut slow = Follower::start(Arc::clone(store)).await.expect("started");
    let mut watch = store.watch("/", slow.resources().revision).expect("watched");
    let writing = async {
        let put = |id| store.put(Put::new(format!("/apisix/routes/{id}"), r#"{"uri":"/a"}"#));
        let mut writes = stream::iter(0..BURST).map(put).buffer_unordered(256);
        while let Some(written) = writes.next().await {
            written.expect("written");
        }
    };
    let following = async {
        let mut rounds = 0;
        while follower.resources().routes.len() < BURST {
            follower.changed().await.expect("changes");
            rounds += 1;
        }
        rounds
    };
    let ((), rounds) = tokio::join!(writing, following);
    assert!(rounds < BURST, "{rounds}");
    let told = async { while watch.next().await.is_ok() {} };
    let told = tokio::time::timeout(std::time::Duration::from_secs(60), told).await;
    told.expect("that it missed changes");
    while slow.resources().routes.len() < BURST {
        slow.changed().await.expect("changes");
    }
}
