//! What is asked for by name besides everything, and virtual hosts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use weft_xds_proto::pb::envoy::{
    config::route::v3::VirtualHost,
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Wire},
};

use super::*;
use crate::{
    ClientProtocol, ResourceUpdate, ServerProtocol, Subscription, client::DeltaClient,
    server::DeltaServer,
};

const CDS: ResourceType = ResourceType::Cluster;
const VHDS: ResourceType = ResourceType::VirtualHost;

type Contents<'a> = &'a [(&'a str, u32)];

fn set(kind: ResourceType, contents: Contents<'_>) -> BTreeMap<String, Arc<VersionedResource>> {
    let one = |(name, content): &(&str, u32)| {
        let body = match kind {
            VHDS => pack(&VirtualHost { name: format!("{name} {content}"), ..Default::default() }),
            _ => body(kind, name, *content),
        };
        ((*name).to_owned(), Arc::new(VersionedResource { version: content.to_string(), body }))
    };
    contents.iter().map(one).collect()
}

/// Clusters that are announced, clusters that are not, and virtual hosts.
fn snapshot(announced: Contents<'_>, hidden: Contents<'_>, hosts: Contents<'_>) -> NodeResources {
    let named = |kind, contents| -> Option<Arc<dyn crate::OnDemand>> {
        Some(Arc::new(TypeResources { resources: set(kind, contents), ..Default::default() }))
    };
    let clusters = TypeResources {
        version: "1".into(),
        resources: set(CDS, announced),
        on_demand: named(CDS, hidden),
    };
    let hosts =
        TypeResources { version: "1".into(), on_demand: named(VHDS, hosts), ..Default::default() };
    NodeResources::default().with(CDS, Arc::new(clusters)).with(VHDS, Arc::new(hosts))
}

fn want(client: &mut DeltaClient, clusters: &[&str], hosts: &[&str]) {
    let clusters: BTreeSet<String> = clusters.iter().map(ToString::to_string).collect();
    let clusters = match clusters.is_empty() {
        true => Subscription::Wildcard,
        false => Subscription::WildcardAnd(clusters),
    };
    let hosts = Subscription::names(hosts.iter().copied());
    client.set_subscriptions(vec![(CDS, clusters), (VHDS, hosts)]);
}

/// Lets both ends talk until nothing is left to say.
fn settle(
    client: &mut DeltaClient,
    server: &mut DeltaServer,
    resources: &NodeResources,
) -> Vec<ResourceUpdate> {
    let mut updates = Vec::new();
    loop {
        let mut quiet = true;
        while let Some(request) = client.next_request() {
            server.receive(request);
            quiet = false;
        }
        while let Some(response) = server.next_response(resources) {
            quiet = false;
            if let Some(received) = client.receive(response) {
                updates.push(received.update);
                client.complete(received.pending, Vec::new());
            }
        }
        if quiet {
            return updates;
        }
    }
}

fn held(client: &DeltaClient, kind: ResourceType) -> BTreeMap<String, String> {
    let held = client.holdings().of(kind).into_iter().flat_map(|held| held.resources.values());
    held.map(|one| (one.name.clone(), one.version.clone())).collect()
}

fn names(client: &DeltaClient, kind: ResourceType) -> Vec<String> {
    held(client, kind).into_keys().collect()
}

#[test]
fn what_is_asked_for_by_name_comes_besides_everything_and_goes_again() {
    let resources = snapshot(&[("a", 1)], &[("y", 1), ("z", 1)], &[]);
    let (mut client, mut server) = (DeltaClient::new(node()), DeltaServer::default());
    client.connected();
    want(&mut client, &[], &[]);
    settle(&mut client, &mut server, &resources);
    assert_eq!(names(&client, CDS), ["a"]);
    want(&mut client, &["z"], &[]);
    settle(&mut client, &mut server, &resources);
    assert_eq!(names(&client, CDS), ["a", "z"]);
    want(&mut client, &[], &[]);
    assert_eq!(names(&client, CDS), ["a"], "what is left is forgotten at once");
    let updates = settle(&mut client, &mut server, &resources);
    assert!(updates.iter().all(|update| update.added.is_empty()), "{updates:?}");
}

#[test]
fn a_name_that_is_left_and_is_a_part_of_everything_is_sent_again() {
    let resources = snapshot(&[("a", 1)], &[], &[]);
    let (mut client, mut server) = (DeltaClient::new(node()), DeltaServer::default());
    client.connected();
    for clusters in [&["a"][..], &[]] {
        want(&mut client, clusters, &[]);
        settle(&mut client, &mut server, &resources);
        assert_eq!(names(&client, CDS), ["a"]);
    }
}

#[test]
fn a_reconnection_asks_for_the_same_names_and_states_what_is_held() {
    let resources = snapshot(&[("a", 1)], &[("z", 1)], &[("80/h", 1)]);
    let (mut client, mut server) = (DeltaClient::new(node()), DeltaServer::default());
    client.connected();
    want(&mut client, &["z"], &["80/h"]);
    settle(&mut client, &mut server, &resources);
    client.disconnected();
    client.connected();
    let requests: Vec<DeltaDiscoveryRequest> =
        std::iter::from_fn(|| client.next_request()).collect();
    assert_eq!(requests[0].resource_names_subscribe, ["*", "z"]);
    assert_eq!(requests[0].initial_resource_versions.len(), 2);
    assert_eq!(requests[1].resource_names_subscribe, ["80/h"]);
    let mut server = DeltaServer::default();
    requests.into_iter().for_each(|request| drop(server.receive(request)));
    let updates = settle(&mut client, &mut server, &resources);
    let told = updates.iter().flat_map(|update| &update.added).count();
    let gone = updates.iter().flat_map(|update| &update.removed).count();
    assert_eq!((told, gone), (0, 0), "{updates:?}");
}

#[test]
fn a_change_reaches_who_asked_for_it_alone() {
    let (before, after) = (
        snapshot(&[], &[("y", 1), ("z", 1)], &[("80/h", 1)]),
        snapshot(&[], &[("y", 1), ("z", 2)], &[("80/h", 1)]),
    );
    let mut pushed = Vec::new();
    for cluster in ["y", "z"] {
        let (mut client, mut server) = (DeltaClient::new(node()), DeltaServer::default());
        client.connected();
        want(&mut client, &[cluster], &["80/h"]);
        settle(&mut client, &mut server, &before);
        pushed.push(settle(&mut client, &mut server, &after).len());
    }
    assert_eq!(pushed, [0, 1]);
}

#[test]
fn an_unknown_virtual_host_is_told_by_an_empty_resource_and_a_later_one_comes() {
    let (mut client, mut server) = (DeltaClient::new(node()), DeltaServer::default());
    client.connected();
    want(&mut client, &[], &["80/h"]);
    std::iter::from_fn(|| client.next_request()).for_each(|request| drop(server.receive(request)));
    let nobody = snapshot(&[], &[], &[]);
    let response = std::iter::from_fn(|| server.next_response(&nobody))
        .find(|response| response.type_url == VHDS.type_url())
        .unwrap();
    let told = &response.resources[0];
    assert_eq!((told.name.as_str(), told.resource.is_none()), ("80/h", true));
    assert!(response.removed_resources.is_empty());
    let received = client.receive(response).unwrap();
    assert_eq!(received.update.removed, ["80/h"]);
    client.complete(received.pending, Vec::new());
    let updates = settle(&mut client, &mut server, &snapshot(&[], &[], &[("80/h", 1)]));
    assert_eq!(updates.iter().flat_map(|update| &update.added).count(), 1);
    let updates = settle(&mut client, &mut server, &nobody);
    let gone: Vec<_> = updates.iter().flat_map(|update| &update.removed).collect();
    assert_eq!(gone, ["80/h"], "one that was there is removed");
}

#[test]
fn a_virtual_host_answers_to_its_aliases() {
    let mut client = DeltaClient::new(node());
    client.connected();
    want(&mut client, &[], &["80/a", "80/b"]);
    let body = pack(&VirtualHost { name: "h".into(), ..Default::default() });
    let aliases = vec!["80/a".to_owned(), "80/b".to_owned(), "80/unasked".to_owned()];
    let wire = Wire { name: "80/h".into(), aliases, resource: Some(body), ..Default::default() };
    let response = |resources, removed_resources| DeltaDiscoveryResponse {
        type_url: VHDS.type_url().to_owned(),
        resources,
        removed_resources,
        ..Default::default()
    };
    let received = client.receive(response(vec![wire], Vec::new())).unwrap();
    client.complete(received.pending, Vec::new());
    assert_eq!(names(&client, VHDS), ["80/a", "80/b"]);
    let received = client.receive(response(Vec::new(), vec!["80/h".to_owned()])).unwrap();
    assert_eq!(received.update.removed, ["80/a", "80/b"]);
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Step {
    /// Announces the clusters of the first mask, hides those of the second, has virtual hosts of
    /// the third, all with this content.
    World(u8, u8, u8, u32),
    Want(u8, u8),
    ToServer,
    Push,
    ToClient,
    Disconnect,
    Connect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..16u8, 0..16u8, 0..16u8, 0..3u32).prop_map(|(a, h, v, n)| Step::World(a, h & !a, v, n)),
        3 => (0..16u8, 0..16u8).prop_map(|(clusters, hosts)| Step::Want(clusters, hosts)),
        6 => Just(Step::ToServer),
        6 => Just(Step::Push),
        6 => Just(Step::ToClient),
        1 => Just(Step::Disconnect),
        2 => Just(Step::Connect),
    ]
}

fn chosen(mask: u8) -> Vec<&'static str> {
    (0..4).filter(|bit| mask & (1 << bit) != 0).map(|bit| NAMES[bit]).collect()
}

struct Link {
    client: DeltaClient,
    server: Option<DeltaServer>,
    to_server: VecDeque<DeltaDiscoveryRequest>,
    to_client: VecDeque<DeltaDiscoveryResponse>,
    world: (u8, u8, u8, u32),
    resources: NodeResources,
    wanted: (u8, u8),
}

impl Link {
    fn new() -> Self {
        let client = DeltaClient::new(node());
        let (to_server, to_client) = (VecDeque::new(), VecDeque::new());
        let resources = snapshot(&[], &[], &[]);
        let (world, wanted) = ((0, 0, 0, 0), (0, 0));
        let mut link =
            Self { client, server: None, to_server, to_client, world, resources, wanted };
        link.step(&Step::Want(0, 0));
        link
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::World(announced, hidden, hosts, content) => {
                self.world = (announced, hidden, hosts, content);
                let [announced, hidden, hosts] = [announced, hidden, hosts]
                    .map(|mask| chosen(mask).into_iter().map(|n| (n, content)).collect::<Vec<_>>());
                self.resources = snapshot(&announced, &hidden, &hosts);
            }
            Step::Want(clusters, hosts) => {
                self.wanted = (clusters, hosts);
                want(&mut self.client, &chosen(clusters), &chosen(hosts));
            }
            Step::ToServer => {
                if let (Some(server), Some(request)) =
                    (&mut self.server, self.to_server.pop_front())
                {
                    server.receive(request);
                }
            }
            Step::Push => {
                let server = self.server.as_mut();
                let response = server.and_then(|server| server.next_response(&self.resources));
                self.to_client.extend(response);
            }
            Step::ToClient => {
                let response = self.to_client.pop_front();
                if let Some(received) = response.and_then(|one| self.client.receive(one)) {
                    self.client.complete(received.pending, Vec::new());
                }
            }
            Step::Disconnect => {
                self.server = None;
                self.to_server.clear();
                self.to_client.clear();
                self.client.disconnected();
            }
            Step::Connect if self.server.is_none() => {
                self.server = Some(DeltaServer::default());
                self.client.connected();
            }
            Step::Connect => {}
        }
        self.to_server.extend(std::iter::from_fn(|| self.client.next_request()));
    }

    fn rest(&mut self) {
        self.step(&Step::Connect);
        for _ in 0..100 {
            for step in [Step::ToServer, Step::Push, Step::ToClient] {
                self.step(&step);
            }
        }
        assert!(self.to_server.is_empty() && self.to_client.is_empty(), "they come to rest");
    }

    fn check(&self) {
        let (announced, hidden, hosts, content) = self.world;
        let expected = |mask: u8| -> BTreeMap<String, String> {
            chosen(mask).into_iter().map(|name| (name.to_owned(), content.to_string())).collect()
        };
        assert_eq!(held(&self.client, CDS), expected(announced | hidden & self.wanted.0));
        assert_eq!(held(&self.client, VHDS), expected(hosts & self.wanted.1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_on_demand_comes_and_goes_as_asked_after_any_history(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut link = Link::new();
        steps.iter().for_each(|step| link.step(step));
        link.rest();
        link.check();
    }
}
