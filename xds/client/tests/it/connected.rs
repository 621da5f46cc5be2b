//! With a server that is there, or comes back.

use weft_xds_client::{Subscription, Variant};

use crate::bench::{CDS, Client, EDS, LDS, RDS, Server, Way, World, config, until};

const BOTH: [Variant; 2] = [Variant::Delta, Variant::Sotw];

#[tokio::test]
async fn everything_is_served_and_acknowledged() {
    for variant in BOTH {
        let world = World::new();
        let mut server = Server::start(&world).await;
        let mut client = Client::start(config(variant), &Way::to(&server));
        client.holds_the_first_world().await;
        let heard =
            until(&mut server.heard, "acknowledgements", |heard| heard.acked.len() == 4).await;
        assert_eq!(heard.nodes, ["node"]);
        assert_eq!(heard.peers[0].bearer_token.as_deref(), Some("token"));
        assert!(heard.peers[0].address.is_some_and(|address| address.ip().is_loopback()));
        assert_eq!(heard.subscribed[&RDS], Subscription::names(["r"]));
        assert_eq!(heard.subscribed[&LDS], Subscription::Wildcard);
        assert_eq!(client.seen.borrow().connected, [true]);
        client.handle.shutdown().await;
        until(&mut server.heard, "the end", |heard| heard.closed == 1).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_change_brings_only_its_own_type() {
    for variant in BOTH {
        let world = World::new();
        let server = Server::start(&world).await;
        let mut client = Client::start(config(variant), &Way::to(&server));
        client.holds_the_first_world().await;
        let before = client.seen.borrow().updates.len();
        world.set(RDS, &[("r", "2"), ("unasked", "1")]);
        client.holds(RDS, &[("r", "2")]).await;
        assert_eq!(client.seen.borrow().updates[before..], [RDS]);
        server.stop().await;
    }
}

#[tokio::test]
async fn removed_resources_disappear() {
    for variant in BOTH {
        let world = World::new();
        let server = Server::start(&world).await;
        let mut client = Client::start(config(variant), &Way::to(&server));
        client.holds_the_first_world().await;
        world.set(CDS, &[("b", "1")]);
        client.holds(CDS, &[("b", "1")]).await;
        world.set(LDS, &[]);
        client.holds(LDS, &[]).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn the_good_part_is_applied_and_the_bad_reported_by_name() {
    for variant in BOTH {
        let world = World::new();
        let mut server = Server::start(&world).await;
        let mut client = Client::start(config(variant), &Way::to(&server));
        client.holds_the_first_world().await;
        world.set(CDS, &[("a", "2"), ("b", "bad")]);
        client.holds(CDS, &[("a", "2"), ("b", "1")]).await;
        let heard = until(&mut server.heard, "a refusal", |heard| !heard.refusals.is_empty()).await;
        let refusal = &heard.refusals[0];
        assert_eq!((refusal.kind, refusal.names.as_slice()), (CDS, ["b".to_owned()].as_slice()));
        assert_eq!(refusal.message, "CDS \"b\": alt_stat_name: is bad");
        let mut status = client.handle.status();
        let status = until(&mut status, "the rejection", |s| s.types[&CDS].rejected == 1).await;
        assert_eq!(status.types[&CDS].rejections[0].name, "b");
        world.set(CDS, &[("a", "2"), ("b", "3")]);
        client.holds(CDS, &[("a", "2"), ("b", "3")]).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_server_on_another_port_is_caught_up_with() {
    for variant in BOTH {
        let world = World::new();
        let server = Server::start(&world).await;
        let way = Way::to(&server);
        let mut client = Client::start(config(variant), &way);
        client.holds_the_first_world().await;
        server.stop().await;
        until(&mut client.seen, "the loss", |seen| seen.connected == [true, false]).await;
        assert!(client.seen.borrow().has(CDS, &[("a", "1"), ("b", "1")]), "held without a server");
        world.set(CDS, &[("b", "1"), ("c", "1")]);
        world.set(EDS, &[("b", "1"), ("c", "1")]);
        world.set(RDS, &[("r", "2")]);
        let server = Server::start(&world).await;
        way.lead(&server);
        client.holds(CDS, &[("b", "1"), ("c", "1")]).await;
        client.holds(RDS, &[("r", "2")]).await;
        until(&mut client.seen, "endpoints", |seen| seen.resources[&EDS].contains_key("c")).await;
        assert_eq!(client.seen.borrow().connected, [true, false, true]);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_refresh_subscribes_to_what_is_wanted_by_then() {
    for variant in BOTH {
        let world = World::new();
        let mut server = Server::start(&world).await;
        let mut client = Client::start(config(variant), &Way::to(&server));
        client.holds_the_first_world().await;
        client.routes.lock().insert("unasked".into());
        client.handle.refresh();
        client.holds(RDS, &[("r", "1"), ("unasked", "1")]).await;
        client.routes.lock().remove("r");
        client.handle.refresh();
        let only = Subscription::names(["unasked"]);
        until(&mut server.heard, "leaving", |heard| heard.subscribed[&RDS] == only).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_refused_stream_is_told_and_tried_again() {
    for variant in BOTH {
        let world = World::new();
        let denied = tonic::Status::permission_denied("namespace \"x\" is not yours");
        let refusing = Server::refusing(&world, denied).await;
        let way = Way::to(&refusing);
        let mut client = Client::start(config(variant), &way);
        let mut status = client.handle.status();
        let told = until(&mut status, "the refusal", |s| {
            s.last_error.as_ref().is_some_and(|error| error.contains("PermissionDenied"))
        });
        let told = told.await.last_error.unwrap();
        assert!(told.contains("namespace \"x\" is not yours"), "{told}");
        let server = Server::start(&world).await;
        way.lead(&server);
        client.holds_the_first_world().await;
        refusing.stop().await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_burst_ends_in_the_last_state() {
    for variant in BOTH {
        let world = World::new();
        let server = Server::start(&world).await;
        let mut client = Client::start(config(variant), &Way::to(&server));
        client.holds_the_first_world().await;
        for round in 2..300 {
            world.set(RDS, &[("r", &round.to_string())]);
            world.set(CDS, &[("a", &round.to_string())]);
        }
        client.holds(RDS, &[("r", "299")]).await;
        client.holds(CDS, &[("a", "299")]).await;
        server.stop().await;
    }
}
