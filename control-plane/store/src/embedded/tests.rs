use std::path::PathBuf;

use futures_util::future::join_all;

use super::*;
use crate::conformance;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("data").join("weft.redb")
    }

    fn store(&self) -> EmbeddedStore {
        EmbeddedStore::open(&self.file()).expect("a store")
    }
}

#[tokio::test]
async fn the_embedded_store_keeps_the_contract() {
    let folder = Folder::new();
    conformance::all(Arc::new(folder.store())).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_restart() {
    let folder = Folder::new();
    let written = folder.store().put(Put::new("/apisix/routes/1", "{}")).await.expect("written");
    let store = folder.store();
    let entry = store.get("/apisix/routes/1").await.expect("read").expect("there");
    assert_eq!((entry.value.as_ref(), entry.modified), (&b"{}"[..], written.revision));
    assert!(store.put(Put::new("/a", "1")).await.expect("written").revision > written.revision);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let folder = Folder::new();
    let store = folder.store();
    for number in 0..50 {
        store.put(Put::new(format!("/k/{number:02}"), "1")).await.expect("written");
    }
    // The file as it is while open is what a crash leaves.
    let left = folder.0.path().join("left.redb");
    std::fs::copy(folder.file(), &left).expect("copied");
    let after = EmbeddedStore::open(&left).expect("repaired");
    assert_eq!(after.list("/k/").await.expect("listed").entries.len(), 50);
}

#[tokio::test]
async fn changes_before_a_restart_are_compacted() {
    let folder = Folder::new();
    folder.store().put(Put::new("/a", "1")).await.expect("written");
    let store = folder.store();
    assert_eq!(store.watch("", 0).err(), Some(WatchError::Compacted(1)));
    assert!(store.watch("", 1).is_ok());
}

#[tokio::test]
async fn concurrent_writers_each_get_their_revision() {
    let folder = Folder::new();
    let store = folder.store();
    let writes = (0..500).map(|i| store.put(Put::new(format!("/k/{i:03}"), "1")));
    let written = join_all(writes).await;
    let mut revisions: Vec<_> =
        written.into_iter().map(|written| written.expect("written").revision).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=500).collect::<Vec<_>>());
    assert_eq!(store.list("/k/").await.expect("listed").entries.len(), 500);
}

#[tokio::test]
async fn a_key_with_a_ttl_ends_by_itself_also_after_a_restart() {
    let folder = Folder::new();
    let put = |key: &str, ttl| Put { ttl: Some(ttl), ..Put::new(key, "1") };
    let hour = std::time::Duration::from_secs(3600);
    {
        let store = folder.store();
        store.put(put("/short", std::time::Duration::from_millis(1))).await.expect("written");
        store.put(put("/renewed", std::time::Duration::from_millis(1))).await.expect("written");
        store.put(put("/renewed", hour)).await.expect("written");
    }
    let store = folder.store();
    let revision = store.list("/short").await.expect("listed").revision;
    let mut watch = store.watch("/short", revision).expect("watched");
    if store.get("/short").await.expect("read").is_some() {
        assert_eq!(watch.next().await.expect("an event").entry, None);
    }
    assert!(store.get("/renewed").await.expect("read").is_some());
}

#[test]
fn the_file_is_its_owner_s_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let _store = folder.store();
    let mode = std::fs::metadata(folder.file()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_in_use_is_named() {
    let folder = Folder::new();
    let _first = folder.store();
    let Err(error) = EmbeddedStore::open(&folder.file()) else {
        panic!("opened twice");
    };
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
    assert!(error.to_string().contains("weft.redb"), "{error}");
}

#[test]
fn a_damaged_file_is_named_and_left_alone() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.file().parent().expect("a parent")).expect("made");
    let garbage = vec![7_u8; 100_000];
    std::fs::write(folder.file(), &garbage).expect("written");
    let Err(error) = EmbeddedStore::open(&folder.file()) else {
        panic!("opened garbage");
    };
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(folder.file()).expect("read"), garbage);
}
