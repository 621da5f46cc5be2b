use super::*;
use crate::Follower;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("apisix.yaml")
    }

    /// Replaces the file at once, as editors and mounts do.
    fn write(&self, text: &str) {
        let fresh = self.0.path().join("fresh");
        std::fs::write(&fresh, text).expect("written");
        std::fs::rename(fresh, self.file()).expect("renamed");
    }

    async fn store(&self) -> Result<FileStore, OpenError> {
        FileStore::open(&self.file(), &self.0.path().join("memory.redb")).await
    }
}

fn routes(follower: &Follower) -> Vec<String> {
    follower.resources().routes.iter().map(|item| item.value.uris[0].clone()).collect()
}

async fn until(follower: &mut Follower, uris: &[&str]) {
    let waiting = async {
        while routes(follower) != uris {
            follower.changed().await.expect("changes");
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    waited.unwrap_or_else(|_| panic!("{:?} instead of {uris:?}", routes(follower)));
}

#[tokio::test]
async fn the_file_is_followed_and_a_broken_one_changes_nothing() {
    let folder = Folder::new();
    folder.write("routes: [{id: 1, uri: /a}, {id: 2, uri: /b}]\n#END\n");
    let store = Arc::new(folder.store().await.expect("a store"));
    let mut follower =
        Follower::start(Arc::clone(&store) as Arc<dyn Store>).await.expect("started");
    until(&mut follower, &["/a", "/b"]).await;
    folder.write("routes: [{id: 1, uri: /c}]\n");
    let mut source = Source { path: folder.file(), seen: None };
    let error = source.look(&store.memory).await.expect_err("incomplete");
    assert!(error.contains("apisix.yaml") && error.contains("#END"), "{error}");
    until(&mut follower, &["/a", "/b"]).await;
    // The second is wrong: it stays as it was.
    folder.write("routes: [{id: 1, uri: /c}, {id: 2, uri: 5}]\n#END\n");
    until(&mut follower, &["/c", "/b"]).await;
    folder.write("routes: [{id: 3, uri: /d}]\n#END\n");
    until(&mut follower, &["/d"]).await;
    std::fs::remove_file(folder.file()).expect("removed");
    assert!(source.look(&store.memory).await.is_err());
    until(&mut follower, &["/d"]).await;
}

#[tokio::test]
async fn a_start_with_a_broken_file_serves_what_was_good_last() {
    let folder = Folder::new();
    let error = folder.store().await.err().expect("no file");
    assert!(error.to_string().contains("apisix.yaml"), "{error}");
    folder.write("routes: [{id: 1, uri: /a}]\n#END\n");
    drop(folder.store().await.expect("a store"));
    folder.write("routes: [");
    let store = folder.store().await.expect("a store");
    assert!(store.get("/apisix/routes/1").await.expect("read").is_some());
}

#[tokio::test]
async fn resources_are_read_only_and_the_rest_is_not() {
    let folder = Folder::new();
    folder.write("routes: [{id: 1, uri: /a}]\n#END\n");
    let store = folder.store().await.expect("a store");
    let refused = store.put(Put::new("/apisix/routes/1", "{}")).await.expect_err("read-only");
    assert!(refused.to_string().contains("apisix.yaml"), "{refused}");
    assert!(store.delete("/apisix/routes/1", Expect::Anything).await.is_err());
    store.put(Put::new("/weft/workloads/x", "{}")).await.expect("written");
    assert!(store.list("/weft/workloads/").await.expect("listed").entries.len() == 1);
}
