//! Starting without a server, from the snapshot on disk.

use std::sync::Arc;

use weft_xds_client::{ClientConfig, Node, Variant};

use crate::bench::{CDS, Client, EDS, RDS, Server, Way, World, config, until};

const BOTH: [Variant; 2] = [Variant::Delta, Variant::Sotw];

fn cached(variant: Variant, folder: &tempfile::TempDir) -> ClientConfig {
    ClientConfig { cache: Some(folder.path().join("state/xds")), ..config(variant) }
}

/// Leaves a cache of the first world behind.
async fn earlier_life(world: &Arc<World>, config: ClientConfig) {
    let server = Server::start(world).await;
    let mut client = Client::start(config, &Way::to(&server));
    client.holds_the_first_world().await;
    client.handle.keep("certificate", b"pem".to_vec());
    client.handle.shutdown().await;
    server.stop().await;
}

#[tokio::test]
async fn without_a_server_the_last_good_snapshot_is_served() {
    for variant in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new();
        earlier_life(&world, cached(variant, &folder)).await;
        let mut client = Client::start(cached(variant, &folder), &Arc::new(Way::default()));
        client.holds_the_first_world().await;
        let status =
            until(&mut client.handle.status(), "the cache", |status| status.restored).await;
        assert_eq!((status.connected, status.cache_error), (false, None));
        assert_eq!(client.handle.kept("certificate").as_deref(), Some(b"pem".as_slice()));
        client.handle.shutdown().await;
    }
}

#[tokio::test]
async fn changed_endpoints_are_served_without_a_server_too() {
    for variant in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new();
        let server = Server::start(&world).await;
        let mut client = Client::start(cached(variant, &folder), &Way::to(&server));
        client.holds_the_first_world().await;
        for version in ["2", "3"] {
            world.set(EDS, &[("a", version), ("b", "1")]);
            client.holds(EDS, &[("a", version), ("b", "1")]).await;
        }
        client.handle.shutdown().await;
        server.stop().await;
        let mut client = Client::start(cached(variant, &folder), &Arc::new(Way::default()));
        client.holds(EDS, &[("a", "3"), ("b", "1")]).await;
        client.handle.shutdown().await;
    }
}

#[tokio::test]
async fn what_went_meanwhile_is_removed_when_the_server_is_back() {
    for variant in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new();
        earlier_life(&world, cached(variant, &folder)).await;
        let way = Arc::new(Way::default());
        let mut client = Client::start(cached(variant, &folder), &way);
        client.holds_the_first_world().await;
        world.set(CDS, &[("b", "2")]);
        world.set(EDS, &[("b", "1")]);
        world.set(RDS, &[("r", "2")]);
        let server = Server::start(&world).await;
        way.lead(&server);
        client.holds(CDS, &[("b", "2")]).await;
        client.holds(RDS, &[("r", "2")]).await;
        client.handle.shutdown().await;
        server.stop().await;

        let mut client = Client::start(cached(variant, &folder), &Arc::new(Way::default()));
        client.holds(CDS, &[("b", "2")]).await;
        client.holds(RDS, &[("r", "2")]).await;
        client.handle.shutdown().await;
    }
}

#[tokio::test]
async fn another_nodes_cache_is_refused_and_the_server_asked() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new();
    earlier_life(&world, cached(Variant::Delta, &folder)).await;
    let node = Node { id: "other".into(), ..Default::default() };
    let config = ClientConfig { node, ..cached(Variant::Delta, &folder) };
    let way = Arc::new(Way::default());
    let mut client = Client::start(config, &way);
    let status = until(&mut client.handle.status(), "the cache", |status| status.restored).await;
    let refused = status.cache_error.unwrap();
    assert!(refused.contains("belongs to node \"node\", this is \"other\""), "{refused}");
    assert!(client.seen.borrow().updates.is_empty());
    let server = Server::start(&world).await;
    way.lead(&server);
    client.holds_the_first_world().await;
    client.handle.shutdown().await;
    server.stop().await;
}

#[tokio::test]
async fn a_damaged_cache_is_refused_and_the_server_asked() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new();
    earlier_life(&world, cached(Variant::Delta, &folder)).await;
    let path = folder.path().join("state/xds");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let server = Server::start(&world).await;
    let mut client = Client::start(cached(Variant::Delta, &folder), &Way::to(&server));
    client.holds_the_first_world().await;
    let refused = client.handle.status().borrow().cache_error.clone().unwrap();
    assert!(refused.contains("damaged"), "{refused}");
    client.handle.shutdown().await;
    server.stop().await;
}
