mod secured;
pub(crate) mod server;

use std::collections::BTreeSet;

use futures_util::future::join_all;
use prost::Message;
pub(crate) use server::Server;
use server::{PATIENCE, Way};

use super::*;
use crate::{Event, Follower, conformance};

/// A store whose members answer soon or not at all.
pub(crate) async fn store(urls: &[&str]) -> EtcdStore {
    EtcdStore::open(&config(urls)).await.expect("a store")
}

fn config(urls: &[&str]) -> EtcdConfig {
    let endpoints = urls.iter().map(|url| (*url).to_owned()).collect();
    EtcdConfig { endpoints, timeout: Duration::from_secs(10), ..EtcdConfig::default() }
}

/// A value that APISIX wrote, past this crate's keys.
async fn write(store: &EtcdStore, key: &str, value: &str) {
    let put =
        PutRequest { key: key.into(), value: value.to_owned().into(), lease: 0, prev_kv: false };
    store.etcd.write(Vec::new(), Request::Put(put)).await.expect("written");
}

/// Lets etcd forget everything before `revision`.
async fn compact(store: &EtcdStore, revision: Revision) {
    #[derive(Clone, PartialEq, Message)]
    struct Compaction {
        #[prost(int64, tag = "1")]
        revision: i64,
        #[prost(bool, tag = "2")]
        physical: bool,
    }
    let request = Compaction { revision: api::signed(revision), physical: true };
    let cluster = &store.etcd.cluster;
    let answer = cluster.call("/etcdserverpb.KV/Compact", &request, Repeat::Freely).await;
    let _: RangeResponse = answer.expect("compacted");
}

async fn next(watch: &mut Watch) -> Arc<Event> {
    let event = tokio::time::timeout(PATIENCE, watch.next()).await;
    event.expect("in time").expect("an event")
}

/// Waits until the follower knows `count` routes.
async fn until_routes(follower: &mut Follower, count: usize) {
    let waiting = async {
        while follower.resources().routes.len() != count {
            follower.changed().await.expect("changes");
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
}

fn route(id: impl std::fmt::Display) -> Put {
    Put::new(format!("/apisix/routes/{id}"), r#"{"uri":"/a"}"#)
}

#[tokio::test]
async fn etcd_keeps_the_contract() {
    let server = Server::start().await;
    conformance::all(Arc::new(store(&[&server.url]).await)).await;
}

#[tokio::test]
async fn what_apisix_wrote_is_read_as_it_is_and_placeholders_are_not() {
    let server = Server::start().await;
    let mut config = config(&[&server.url]);
    config.prefix = "/gateways/apisix".to_owned();
    let store = EtcdStore::open(&config).await.expect("a store");
    let mut watch = store.watch("/", store.history_start()).expect("watched");
    let value = r#"{"uri":"/a","id":"1","create_time":5,"update_time":6}"#;
    write(&store, "/gateways/apisix/routes/", "init_dir").await;
    write(&store, "/apisix/routes/2", value).await;
    write(&store, "/gateways/apisix/routes/1", value).await;
    store.put(Put::new("/weft/mesh/default", "{}")).await.expect("written");
    assert_eq!(next(&mut watch).await.key, "/apisix/routes/1");
    assert_eq!(next(&mut watch).await.key, "/weft/mesh/default");
    let listing = store.list("/").await.expect("listed");
    let keys: Vec<_> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["/apisix/routes/1", "/weft/mesh/default"]);
    assert_eq!(listing.entries[0].value.as_ref(), value.as_bytes());
    assert_eq!(store.list("/apisix/routes/").await.expect("listed").entries.len(), 1);
    assert_eq!(store.etcd.layout.outside("/weft/x").as_deref(), Some("/gateways/weft/x"));
}

#[tokio::test]
async fn a_key_with_a_ttl_ends_by_its_lease() {
    let server = Server::start().await;
    let store = store(&[&server.url]).await;
    let mut watch = store.watch("/", store.history_start()).expect("watched");
    let ttl = Some(Duration::from_millis(1));
    store.put(Put { ttl, ..route(1) }).await.expect("written");
    store.put(Put { ttl, ..route(2) }).await.expect("written");
    store.put(route(2)).await.expect("renewed for good");
    while next(&mut watch).await.entry.is_some() {}
    assert_eq!(store.get("/apisix/routes/1").await.expect("read"), None);
    assert!(store.get("/apisix/routes/2").await.expect("read").is_some());
}

#[tokio::test]
async fn after_a_compaction_exactly_what_differs_is_told() {
    let server = Server::start().await;
    let way = Way::to(&server).await;
    let (near, far) = (store(&[&server.url]).await, store(&[&way.url]).await);
    for id in 0..20 {
        near.put(route(id)).await.expect("written");
    }
    let mut follower = Follower::start(Arc::new(far)).await.expect("started");
    until_routes(&mut follower, 20).await;
    way.cut();
    for id in 10..30 {
        near.put(route(id)).await.expect("written");
    }
    near.delete("/apisix/routes/3", Expect::Anything).await.expect("deleted");
    near.put(route(4)).await.expect("written");
    near.delete("/apisix/routes/4", Expect::Anything).await.expect("deleted");
    let last = near.put(route(4)).await.expect("written anew").revision;
    compact(&near, last).await;
    way.mend();
    let told = tokio::time::timeout(PATIENCE, follower.changed()).await.expect("in time");
    let told: BTreeSet<_> = told.expect("changes").iter().map(ToString::to_string).collect();
    let differ = (10..30).chain([3, 4]).map(|id| format!("/apisix/routes/{id}"));
    assert_eq!(told, differ.collect());
    assert_eq!(follower.resources().routes.len(), 29);
}

#[tokio::test]
async fn an_outage_in_the_middle_of_a_burst_loses_nothing_acknowledged() {
    let server = Server::start().await;
    let way = Way::to(&server).await;
    let store = Arc::new(store(&[&way.url]).await);
    let mut follower =
        Follower::start(Arc::clone(&store) as Arc<dyn Store>).await.expect("started");
    let (before, during) = (0..200, 200..400);
    let cut_at = &tokio::sync::Notify::new();
    let write = async |id: u32| {
        if id == 300 {
            cut_at.notify_one();
        }
        store.put(route(id)).await.is_ok().then_some(id)
    };
    let mut acknowledged: Vec<_> = join_all(before.map(&write)).await;
    let burst = async {
        let mut done = Vec::new();
        for id in during {
            done.push(write(id).await);
        }
        done
    };
    let (burst, ()) = tokio::join!(burst, async {
        cut_at.notified().await;
        way.cut();
    });
    acknowledged.extend(burst);
    let acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
    assert!((200..400).contains(&acknowledged.len()), "{}", acknowledged.len());
    let refused = store.put(route("late")).await.expect_err("no etcd");
    assert!(refused.to_string().starts_with("has no healthy etcd endpoint available"), "{refused}");
    assert!(store.get("/apisix/routes/0").await.expect("from memory").is_some());
    assert!(store.list("/apisix/routes/").await.expect("from memory").entries.len() >= 200);
    way.mend();
    store.put(route("mended")).await.expect("written");
    let kept = store.list("/apisix/routes/").await.expect("listed");
    let kept: BTreeSet<_> = kept.entries.iter().map(|entry| entry.key.clone()).collect();
    let lost = acknowledged.iter().find(|id| !kept.contains(&format!("/apisix/routes/{id}")));
    assert_eq!(lost, None);
    until_routes(&mut follower, kept.len()).await;
}

#[tokio::test]
async fn members_may_go_one_after_the_other() {
    let mut members = Server::cluster(3).await;
    let urls: Vec<_> = members.iter().map(|member| member.url.clone()).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let store = Arc::new(store(&urls).await);
    let mut follower =
        Follower::start(Arc::clone(&store) as Arc<dyn Store>).await.expect("started");
    for (gone, member) in members.iter_mut().enumerate() {
        member.kill().await;
        let written = async {
            let mut pause = tokio::time::interval(Duration::from_millis(50));
            while store.put(route(gone)).await.is_err() {
                pause.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, written).await.expect("a majority answers");
        until_routes(&mut follower, gone + 1).await;
        member.restart().await;
    }
    assert!(follower.resources().routes.len() == 3);
}

#[tokio::test]
async fn an_etcd_that_lost_its_memory_is_read_anew() {
    let mut server = Server::start().await;
    let far = Arc::new(store(&[&server.url]).await);
    for id in 0..10 {
        far.put(route(id)).await.expect("written");
    }
    let mut follower = Follower::start(Arc::clone(&far) as Arc<dyn Store>).await.expect("started");
    until_routes(&mut follower, 10).await;
    server.kill().await;
    server.forget();
    server.restart().await;
    let near = store(&[&server.url]).await;
    near.put(route("new")).await.expect("written");
    until_routes(&mut follower, 1).await;
}

#[tokio::test]
async fn without_etcd_the_start_fails_with_the_address() {
    let url = format!("http://127.0.0.1:{}", server::free_port());
    let error = EtcdStore::open(&config(&[&url])).await.err().expect("nobody there");
    assert!(error.to_string().contains(&url), "{error}");
    for (endpoint, part) in [("127.0.0.1:2379", "neither http"), ("http://", "no URL")] {
        let error = EtcdStore::open(&config(&[endpoint])).await.err().expect("wrong");
        assert!(error.to_string().contains(part), "{error}");
    }
}

impl EtcdStore {
    fn history_start(&self) -> Revision {
        self.etcd.mirror.list("/").revision
    }
}
