//! Resources that live for a time only.

use std::time::Duration;

use weft_xds_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, Resource as Wire,
};
use weft_xds_proto::pb::google::protobuf::Duration as PbDuration;
use weft_xds_proto::{Any, ResourceType, pack};

use super::{body, node};
use crate::client::{DeltaClient, SotwClient};
use crate::{ClientProtocol, Subscription};

const CDS: ResourceType = ResourceType::Cluster;

fn wire(name: &str, body: Option<Any>, ttl: Option<i64>) -> Wire {
    Wire {
        name: name.into(),
        version: "1".into(),
        resource: body,
        ttl: ttl.map(|seconds| PbDuration { seconds, nanos: 0 }),
        ..Default::default()
    }
}

/// Gives a response to a client; returns what was added, what was removed and what lives how long.
fn give<C: ClientProtocol>(client: &mut C, response: C::Response) -> Given {
    let received = client.receive(response).expect("it is wanted");
    let added = received.update.added.iter().map(|one| one.name.clone()).collect();
    let given = Given { added, removed: received.update.removed, lives: received.lives };
    client.complete(received.pending, Vec::new());
    while client.next_request().is_some() {}
    given
}

#[derive(Debug, PartialEq)]
struct Given {
    added: Vec<String>,
    removed: Vec<String>,
    lives: Vec<(String, Option<Duration>)>,
}

fn lives(name: &str, seconds: Option<u64>) -> (String, Option<Duration>) {
    (name.to_owned(), seconds.map(Duration::from_secs))
}

fn subscribed<C: ClientProtocol>(mut client: C) -> C {
    client.set_subscriptions(vec![(CDS, Subscription::Wildcard)]);
    client.connected();
    while client.next_request().is_some() {}
    client
}

fn held(client: &impl ClientProtocol) -> Vec<String> {
    client
        .holdings()
        .of(CDS)
        .map(|held| held.resources.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn an_incremental_heartbeat_prolongs_a_life_and_changes_nothing() {
    let mut client = subscribed(DeltaClient::new(node()));
    let response = |resources| DeltaDiscoveryResponse {
        type_url: CDS.type_url().into(),
        resources,
        ..Default::default()
    };
    let given = give(
        &mut client,
        response(vec![
            wire("a", Some(body(CDS, "a", 1)), Some(5)),
            wire("b", Some(body(CDS, "b", 1)), None),
        ]),
    );
    assert_eq!(given.lives, [lives("a", Some(5)), lives("b", None)]);
    let given = give(&mut client, response(vec![wire("a", None, Some(7))]));
    let wanted = Given { added: vec![], removed: vec![], lives: vec![lives("a", Some(7))] };
    assert_eq!(given, wanted);
    client.expire(CDS, &["a".to_owned()]);
    assert_eq!(held(&client), ["b"]);
}

#[test]
fn heartbeats_of_the_state_of_the_world_remove_nothing() {
    let mut client = subscribed(SotwClient::new(node()));
    let response = |resources: Vec<Any>| DiscoveryResponse {
        type_url: CDS.type_url().into(),
        version_info: "1".into(),
        resources,
        ..Default::default()
    };
    let with_end = pack(&wire("a", Some(body(CDS, "a", 1)), Some(5)));
    let given = give(&mut client, response(vec![with_end.clone(), body(CDS, "b", 1)]));
    assert_eq!(given.added, ["a", "b"]);
    assert_eq!(given.lives, [lives("a", Some(5)), lives("b", None)]);
    let given = give(&mut client, response(vec![pack(&wire("a", None, Some(7)))]));
    let wanted = Given { added: vec![], removed: vec![], lives: vec![lives("a", Some(7))] };
    assert_eq!(given, wanted);
    assert_eq!(held(&client), ["a", "b"]);
    let given = give(&mut client, response(vec![with_end]));
    assert_eq!(given.removed, ["b"], "the full state says what is gone");
}
