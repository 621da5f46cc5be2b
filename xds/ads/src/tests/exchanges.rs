//! Single exchanges whose every message is known.

use weft_xds_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

use super::*;
use crate::{
    ClientProtocol, Rejection, ResourceUpdate, ServerEvent, ServerProtocol, Subscription,
    client::{DeltaClient, SotwClient},
    server::{DeltaServer, SotwServer},
};

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoint;
const LDS: ResourceType = ResourceType::Listener;
const RDS: ResourceType = ResourceType::Route;

fn subscribe<C: ClientProtocol>(client: &mut C, wanted: &[(ResourceType, Subscription)]) {
    client.set_subscriptions(wanted.to_vec());
}

fn requests<C: ClientProtocol>(client: &mut C) -> Vec<C::Request> {
    std::iter::from_fn(|| client.next_request()).collect()
}

fn responses<S: ServerProtocol>(server: &mut S, world: &World) -> Vec<S::Response> {
    std::iter::from_fn(|| server.next_response(world.snapshot())).collect()
}

/// Lets both ends talk until nothing is left to say; returns what the client was told and what
/// the server heard.
fn settle<C, S>(
    client: &mut C,
    server: &mut S,
    world: &World,
) -> (Vec<ResourceUpdate>, Vec<ServerEvent>)
where
    C: ClientProtocol,
    S: ServerProtocol<Request = C::Request, Response = C::Response>,
{
    let (mut updates, mut events) = (Vec::new(), Vec::new());
    loop {
        let before = updates.len() + events.len();
        for request in requests(client) {
            events.push(server.receive(request));
        }
        for response in responses(server, world) {
            if let Some(received) = client.receive(response) {
                updates.push(received.update);
                client.complete(received.pending, Vec::new());
            }
        }
        if updates.len() + events.len() == before {
            return (updates, events);
        }
    }
}

fn names(update: &ResourceUpdate) -> Vec<&str> {
    update.added.iter().map(|resource| resource.name.as_str()).collect()
}

fn world() -> World {
    let mut world = World::default();
    for name in ["a", "b"] {
        world.put(CDS, name, 1);
        world.put(EDS, name, 1);
    }
    world.put(LDS, "l", 1);
    world.put(RDS, "r", 1);
    world
}

fn mesh() -> Vec<(ResourceType, Subscription)> {
    vec![
        (CDS, Subscription::Wildcard),
        (EDS, Subscription::names(["a", "b"])),
        (LDS, Subscription::Wildcard),
        (RDS, Subscription::names(["r"])),
    ]
}

fn pair<C, S>(mut client: C, world: &World) -> (C, S)
where
    C: ClientProtocol,
    S: ServerProtocol<Request = C::Request, Response = C::Response>,
{
    let mut server = S::default();
    subscribe(&mut client, &mesh());
    client.connected();
    settle(&mut client, &mut server, world);
    (client, server)
}

fn everything_arrives_in_push_order<C, S>(mut client: C)
where
    C: ClientProtocol,
    S: ServerProtocol<Request = C::Request, Response = C::Response>,
{
    let world = world();
    subscribe(&mut client, &mesh());
    client.connected();
    let (updates, events) = settle(&mut client, &mut S::default(), &world);
    let kinds: Vec<_> = updates.iter().map(|update| update.resource_type).collect();
    assert_eq!(kinds, [CDS, EDS, LDS, RDS]);
    let acked = events.iter().filter(|event| matches!(event, ServerEvent::Acked { .. })).count();
    assert_eq!(acked, 4, "{events:?}");
}

#[test]
fn everything_arrives_in_push_order_in_both_variants() {
    everything_arrives_in_push_order::<_, DeltaServer>(DeltaClient::new(node()));
    everything_arrives_in_push_order::<_, SotwServer>(SotwClient::new(node()));
}

#[test]
fn only_the_first_message_of_a_stream_carries_the_node() {
    let mut client = DeltaClient::new(node());
    subscribe(&mut client, &mesh());
    for _ in 0..2 {
        client.connected();
        let sent = requests(&mut client);
        assert_eq!(sent.len(), 4);
        assert!(sent[0].node.is_some() && sent[1..].iter().all(|request| request.node.is_none()));
    }
}

fn an_unchanged_type_is_not_pushed<C, S>(client: C)
where
    C: ClientProtocol,
    S: ServerProtocol<Request = C::Request, Response = C::Response>,
{
    let mut world = world();
    let (mut client, mut server) = pair::<C, S>(client, &world);
    world.put(RDS, "r", 2);
    world.put(RDS, "unasked", 1);
    let (updates, _) = settle(&mut client, &mut server, &world);
    assert_eq!(updates.len(), 1);
    assert_eq!((updates[0].resource_type, names(&updates[0])), (RDS, vec!["r"]));
}

#[test]
fn only_what_changed_and_is_subscribed_is_pushed_in_both_variants() {
    an_unchanged_type_is_not_pushed::<_, DeltaServer>(DeltaClient::new(node()));
    an_unchanged_type_is_not_pushed::<_, SotwServer>(SotwClient::new(node()));
}

fn endpoints_follow_their_cluster<C, S>(client: C)
where
    C: ClientProtocol,
    S: ServerProtocol<Request = C::Request, Response = C::Response>,
{
    let mut world = world();
    let (mut client, mut server) = pair::<C, S>(client, &world);
    world.put(CDS, "b", 2);
    let (updates, _) = settle(&mut client, &mut server, &world);
    assert_eq!((updates[0].resource_type, names(&updates[0])), (CDS, vec!["b"]));
    assert_eq!((updates[1].resource_type, names(&updates[1])), (EDS, vec!["b"]));
    assert_eq!(updates.len(), 2);
}

#[test]
fn a_changed_cluster_is_followed_by_its_endpoints_in_both_variants() {
    endpoints_follow_their_cluster::<_, DeltaServer>(DeltaClient::new(node()));
    endpoints_follow_their_cluster::<_, SotwServer>(SotwClient::new(node()));
}

#[test]
fn removed_clusters_are_told_after_the_routes_that_left_them() {
    let mut world = world();
    let (mut client, mut server) = pair::<_, DeltaServer>(DeltaClient::new(node()), &world);
    world.remove(CDS, "b");
    world.put(RDS, "r", 2);
    let (updates, _) = settle(&mut client, &mut server, &world);
    assert_eq!(updates[0].resource_type, RDS);
    assert_eq!(
        (updates[1].resource_type, updates[1].removed.as_slice()),
        (CDS, ["b".into()].as_slice())
    );
}

#[test]
fn what_a_full_response_leaves_out_is_removed() {
    let mut world = world();
    let (mut client, mut server) = pair::<_, SotwServer>(SotwClient::new(node()), &world);
    world.remove(CDS, "a");
    let (updates, _) = settle(&mut client, &mut server, &world);
    assert_eq!(updates[0].removed, ["a"]);
    assert!(updates[0].added.is_empty() && updates[0].full, "{updates:?}");
}

#[test]
fn a_delta_reconnection_brings_only_what_changed_meanwhile() {
    let mut world = world();
    let (mut client, _) = pair::<_, DeltaServer>(DeltaClient::new(node()), &world);
    client.disconnected();
    world.remove(CDS, "a");
    world.put(CDS, "c", 1);
    client.connected();
    let mut server = DeltaServer::default();
    let (updates, _) = settle(&mut client, &mut server, &world);
    let clusters: Vec<_> = updates.iter().filter(|update| update.resource_type == CDS).collect();
    assert_eq!(names(clusters[0]), ["c"]);
    assert_eq!(clusters[1].removed, ["a"]);
    assert!(!updates.iter().any(|update| update.resource_type == RDS), "{updates:?}");
}

#[test]
fn a_sotw_reconnection_states_version_and_names() {
    let world = world();
    let (mut client, _) = pair::<_, SotwServer>(SotwClient::new(node()), &world);
    client.disconnected();
    client.connected();
    let sent = requests(&mut client);
    assert_eq!(sent[1].version_info, world.snapshot().of(EDS).version);
    assert_eq!(sent[1].resource_names, ["a", "b"]);
    assert_eq!(sent[1].response_nonce, "");
}

#[test]
fn the_good_part_of_an_update_is_kept_and_the_bad_named() {
    let mut world = world();
    let (mut client, mut server) = pair::<_, DeltaServer>(DeltaClient::new(node()), &world);
    world.put(CDS, "a", 2);
    world.put(CDS, "b", 2);
    let response = server.next_response(world.snapshot()).unwrap();
    let received = client.receive(response).unwrap();
    let rejection = Rejection {
        resource_type: CDS,
        name: "b".into(),
        field: "load_assignment.endpoints[0]".into(),
        reason: "no address".into(),
    };
    client.complete(received.pending, vec![rejection]);
    let held = &client.holdings().of(CDS).unwrap().resources;
    assert_eq!((held["a"].version.as_str(), held["b"].version.as_str()), ("2", "1"));
    let request = client.next_request().unwrap();
    let message = request.error_detail.clone().unwrap().message;
    assert_eq!(message, "CDS \"b\": load_assignment.endpoints[0]: no address");
    let event = server.receive(request);
    let ServerEvent::Rejected { kind: CDS, names, .. } = event else { panic!("{event:?}") };
    assert_eq!(names, ["b"]);
}

#[test]
fn of_a_resource_sent_twice_the_last_one_counts() {
    let mut world = world();
    let (mut client, mut server) = pair::<_, DeltaServer>(DeltaClient::new(node()), &world);
    for version in [2, 3] {
        world.put(CDS, "a", version);
        world.put(CDS, "b", version);
    }
    let mut response = server.next_response(world.snapshot()).unwrap();
    let mut earlier = response.resources[0].clone();
    earlier.version = "2".to_owned();
    response.resources.insert(0, earlier);
    let received = client.receive(response).unwrap();
    let added = received.update.added.iter();
    let added: Vec<_> = added.map(|one| (one.name.as_str(), one.version.as_str())).collect();
    assert_eq!(added, [("a", "3"), ("b", "3")]);
}

#[test]
fn what_did_not_change_is_not_asked_for_again() {
    let world = world();
    let (mut client, _server) = pair::<_, DeltaServer>(DeltaClient::new(node()), &world);
    subscribe(&mut client, &mesh());
    assert!(client.next_request().is_none());
    let mut wanted = mesh();
    wanted.retain(|(kind, _)| *kind != EDS);
    wanted.push((EDS, Subscription::names(["a"])));
    subscribe(&mut client, &wanted);
    let request = client.next_request().unwrap();
    assert_eq!(request.resource_names_unsubscribe, ["b"]);
    assert!(client.next_request().is_none());
}

#[test]
fn a_refused_sotw_response_keeps_the_last_accepted_version() {
    let mut world = world();
    let (mut client, mut server) = pair::<_, SotwServer>(SotwClient::new(node()), &world);
    let accepted = world.snapshot().of(LDS).version.clone();
    world.put(LDS, "l", 2);
    let response = server.next_response(world.snapshot()).unwrap();
    let nonce = response.nonce.clone();
    let received = client.receive(response).unwrap();
    let (name, reason) = ("l".to_owned(), "no".to_owned());
    let rejection = Rejection { resource_type: LDS, name, field: String::new(), reason };
    client.complete(received.pending, vec![rejection]);
    let request = client.next_request().unwrap();
    assert_eq!((request.version_info.as_str(), request.response_nonce), (accepted.as_str(), nonce));
    assert!(request.error_detail.is_some());
}

#[test]
fn an_empty_wildcard_is_answered() {
    let world = World::default();
    let mut delta = DeltaServer::default();
    delta.receive(DeltaDiscoveryRequest { type_url: LDS.type_url().into(), ..Default::default() });
    assert_eq!(responses(&mut delta, &world).len(), 1);
    let mut sotw = SotwServer::default();
    sotw.receive(DiscoveryRequest { type_url: LDS.type_url().into(), ..Default::default() });
    assert_eq!(responses(&mut sotw, &world).len(), 1);
}

#[test]
fn a_name_that_does_not_exist_is_told_once_and_again_when_asked_again() {
    let mut server = DeltaServer::default();
    let ask = || DeltaDiscoveryRequest {
        type_url: RDS.type_url().into(),
        resource_names_subscribe: vec!["none".into()],
        ..Default::default()
    };
    let world = World::default();
    for _ in 0..2 {
        server.receive(ask());
        let told = responses(&mut server, &world);
        assert_eq!(told[0].removed_resources, ["none"]);
        assert_eq!(told.len(), 1);
    }
}

#[test]
fn unsubscribed_resources_are_no_longer_pushed() {
    let mut world = world();
    let (mut client, mut server) = pair::<_, DeltaServer>(DeltaClient::new(node()), &world);
    let mut wanted = mesh();
    wanted[1].1 = Subscription::names(["a"]);
    subscribe(&mut client, &wanted);
    let sent = requests(&mut client);
    assert_eq!(sent[0].resource_names_unsubscribe, ["b"]);
    assert!(!client.holdings().of(EDS).unwrap().resources.contains_key("b"));
    server.receive(sent[0].clone());
    world.put(EDS, "b", 2);
    assert!(responses(&mut server, &world).is_empty());
}

#[test]
fn a_stale_sotw_request_answers_nothing() {
    let mut world = world();
    let (mut client, mut server) = pair::<_, SotwServer>(SotwClient::new(node()), &world);
    world.put(EDS, "a", 2);
    responses(&mut server, &world);
    let mut wanted = mesh();
    wanted[1].1 = Subscription::names(["a"]);
    subscribe(&mut client, &wanted);
    let request = client.next_request().unwrap();
    assert_eq!(server.receive(request), ServerEvent::Stale(EDS));
}

#[test]
fn responses_of_unknown_and_unwanted_types_change_nothing() {
    let mut client = DeltaClient::new(node());
    subscribe(&mut client, &mesh());
    client.connected();
    let response = |type_url: &str| DeltaDiscoveryResponse {
        type_url: type_url.into(),
        nonce: "1".into(),
        ..Default::default()
    };
    assert!(client.receive(response("type.googleapis.com/no.Such")).is_none());
    assert!(client.receive(response(ResourceType::Secret.type_url())).is_none());
}

#[test]
fn a_resource_of_another_type_is_refused_by_its_place() {
    let mut client = SotwClient::new(node());
    subscribe(&mut client, &mesh());
    client.connected();
    requests(&mut client);
    let response = DiscoveryResponse {
        version_info: "1".into(),
        resources: vec![body(CDS, "a", 1), body(LDS, "l", 1)],
        type_url: CDS.type_url().into(),
        nonce: "1".into(),
        ..Default::default()
    };
    let received = client.receive(response).unwrap();
    assert_eq!(names(&received.update), ["a"]);
    client.complete(received.pending, Vec::new());
    let message = client.next_request().unwrap().error_detail.unwrap().message;
    assert!(
        message.starts_with("CDS \"resources[1]\": expected envoy.config.cluster"),
        "{message}"
    );
}

/// A response of the state of the world with two clusters.
fn clusters(version: &str, nonce: &str) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.into(),
        nonce: nonce.into(),
        type_url: CDS.type_url().into(),
        resources: vec![body(CDS, "a", 1), body(CDS, "bad", 1)],
        ..Default::default()
    }
}

fn refuse_bad(client: &mut SotwClient, response: DiscoveryResponse) -> Vec<DiscoveryRequest> {
    let received = client.receive(response).unwrap();
    let bad = Rejection {
        resource_type: CDS,
        name: "bad".into(),
        field: String::new(),
        reason: "wrong".into(),
    };
    client.complete(received.pending, vec![bad]);
    requests(client)
}

#[test]
fn a_refusal_that_is_answered_with_what_was_refused_is_held_back_until_it_is_let_go() {
    let mut client = SotwClient::new(node());
    subscribe(&mut client, &mesh());
    client.connected();
    requests(&mut client);
    let first = refuse_bad(&mut client, clusters("1", "n1"));
    assert_eq!(first[0].response_nonce, "n1");
    assert!(first[0].error_detail.is_some() && !client.holds_back());
    assert!(refuse_bad(&mut client, clusters("1", "n2")).is_empty());
    assert!(client.holds_back());
    client.let_go();
    let again = requests(&mut client);
    assert_eq!(again[0].response_nonce, "n2");
    assert!(again[0].error_detail.is_some() && !client.holds_back());
    // Another version is answered at once.
    assert_eq!(refuse_bad(&mut client, clusters("2", "n3"))[0].response_nonce, "n3");
}

#[test]
fn a_refusal_that_is_held_back_goes_with_the_next_subscription() {
    let mut client = SotwClient::new(node());
    subscribe(&mut client, &mesh());
    client.connected();
    requests(&mut client);
    refuse_bad(&mut client, clusters("1", "n1"));
    refuse_bad(&mut client, clusters("1", "n2"));
    let more = Subscription::WildcardAnd(["x".to_owned()].into());
    subscribe(&mut client, &[(CDS, more)]);
    let told = requests(&mut client);
    let told = told.iter().find(|request| request.type_url == CDS.type_url()).unwrap();
    assert_eq!(told.response_nonce, "n2");
    assert!(told.error_detail.is_some() && !client.holds_back());
}
