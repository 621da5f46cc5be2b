//! Pushes beyond gRPC's usual limit of 4 MiB.

use weft_xds_client::Variant;

use crate::bench::{CDS, Client, Server, Way, World, config, until};

#[tokio::test]
async fn ten_thousand_large_clusters_arrive() {
    let filler = "x".repeat(1_000);
    let names: Vec<String> = (0..10_000).map(|index| format!("cluster-{index}")).collect();
    let clusters: Vec<(&str, &str)> =
        names.iter().map(|name| (name.as_str(), filler.as_str())).collect();
    for variant in [Variant::Delta, Variant::Sotw] {
        let world = World::new();
        world.set(CDS, &clusters);
        let server = Server::start(&world).await;
        let mut client = Client::start(config(variant), &Way::to(&server));
        let all = |seen: &crate::bench::Seen| {
            seen.resources.get(&CDS).is_some_and(|held| held.len() == 10_000)
        };
        until(&mut client.seen, "all clusters", all).await;
        client.handle.shutdown().await;
        server.stop().await;
    }
}
