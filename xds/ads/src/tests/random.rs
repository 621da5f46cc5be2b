//! Random histories: changes, lost connections, messages delayed on either side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use weft_xds_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse,
};

use super::*;
use crate::{
    ClientProtocol, Rejection, Resource, ServerEvent, ServerProtocol, Subscription,
    client::{DeltaClient, SotwClient},
    server::{DeltaServer, SotwServer},
};

const KINDS: [ResourceType; 4] =
    [ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Listener, ResourceType::Route];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize, u32),
    Remove(usize, usize),
    WantRoutes(u8),
    ToServer,
    Push,
    ToClient,
    Disconnect,
    Connect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4usize, 0..4usize, 0..6u32).prop_map(|(kind, name, content)| Step::Put(kind, name, content)),
        2 => (0..4usize, 0..4usize).prop_map(|(kind, name)| Step::Remove(kind, name)),
        1 => (0..16u8).prop_map(Step::WantRoutes),
        6 => Just(Step::ToServer),
        6 => Just(Step::Push),
        6 => Just(Step::ToClient),
        1 => Just(Step::Disconnect),
        2 => Just(Step::Connect),
    ]
}

trait Nonce {
    fn nonce(&self) -> &str;
}

impl Nonce for DeltaDiscoveryResponse {
    fn nonce(&self) -> &str {
        &self.nonce
    }
}

impl Nonce for DiscoveryResponse {
    fn nonce(&self) -> &str {
        &self.nonce
    }
}

/// The receiver finds fault with every resource of this content.
const BAD: u32 = 0;

struct Simulation<C: ClientProtocol, S> {
    world: World,
    client: C,
    server: Option<S>,
    to_server: VecDeque<C::Request>,
    to_client: VecDeque<C::Response>,
    routes: BTreeSet<String>,
    /// What the client found fault with on this stream, by nonce, and what the server heard.
    faults: BTreeMap<String, (ResourceType, BTreeSet<String>)>,
    refusals: BTreeMap<String, (ResourceType, BTreeSet<String>)>,
}

impl<C, S> Simulation<C, S>
where
    C: ClientProtocol,
    C::Response: Nonce,
    S: ServerProtocol<Request = C::Request, Response = C::Response>,
{
    fn new(client: C) -> Self {
        let mut simulation = Self {
            world: World::default(),
            client,
            server: None,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            routes: BTreeSet::from(["a".to_owned()]),
            faults: BTreeMap::new(),
            refusals: BTreeMap::new(),
        };
        simulation.subscribe();
        simulation
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Put(kind, name, content) => self.world.put(KINDS[kind], NAMES[name], content),
            Step::Remove(kind, name) => self.world.remove(KINDS[kind], NAMES[name]),
            Step::WantRoutes(mask) => {
                let wanted = (0..4).filter(|bit| mask & (1 << bit) != 0);
                self.routes = wanted.map(|bit| NAMES[bit].to_owned()).collect();
                self.subscribe();
            }
            Step::ToServer => drop(self.deliver_to_server()),
            Step::Push => drop(self.push()),
            Step::ToClient => drop(self.deliver_to_client()),
            Step::Disconnect => self.disconnect(),
            Step::Connect => self.connect(),
        }
    }

    /// Endpoints are wanted for the clusters that are held, as a data plane would.
    fn subscribe(&mut self) {
        let clusters = self.client.holdings().of(ResourceType::Cluster);
        let endpoints: BTreeSet<String> =
            clusters.into_iter().flat_map(|held| held.resources.keys().cloned()).collect();
        self.client.set_subscriptions(vec![
            (ResourceType::Cluster, Subscription::Wildcard),
            (ResourceType::Endpoint, Subscription::Names(endpoints)),
            (ResourceType::Listener, Subscription::Wildcard),
            (ResourceType::Route, Subscription::Names(self.routes.clone())),
        ]);
        self.send();
    }

    fn send(&mut self) {
        while let Some(request) = self.client.next_request() {
            self.to_server.push_back(request);
        }
    }

    fn deliver_to_server(&mut self) -> bool {
        let (Some(server), Some(request)) = (&mut self.server, self.to_server.pop_front()) else {
            return false;
        };
        if let ServerEvent::Rejected { kind, nonce, names, .. } = server.receive(request) {
            self.refusals.insert(nonce, (kind, names.into_iter().collect()));
        }
        true
    }

    fn push(&mut self) -> bool {
        let response =
            self.server.as_mut().and_then(|server| server.next_response(self.world.snapshot()));
        let pushed = response.is_some();
        self.to_client.extend(response);
        pushed
    }

    fn deliver_to_client(&mut self) -> bool {
        let Some(response) = self.to_client.pop_front() else { return false };
        let nonce = response.nonce().to_owned();
        let Some(received) = self.client.receive(response) else { return true };
        let kind = received.update.resource_type;
        let bad = |one: &Resource| *one.body == body(kind, &one.name, BAD);
        let faults: Vec<Rejection> = received
            .update
            .added
            .into_iter()
            .filter(bad)
            .map(|one| Rejection {
                resource_type: kind,
                name: one.name,
                field: "content".into(),
                reason: "is bad".into(),
            })
            .collect();
        if !faults.is_empty() {
            let names = faults.iter().map(|fault| fault.name.clone()).collect();
            self.faults.insert(nonce, (kind, names));
        }
        self.client.complete(received.pending, faults);
        self.subscribe();
        true
    }

    fn disconnect(&mut self) {
        self.server = None;
        self.to_server.clear();
        self.to_client.clear();
        self.faults.clear();
        self.refusals.clear();
        self.client.disconnected();
    }

    fn connect(&mut self) {
        if self.server.is_none() {
            self.server = Some(S::default());
            self.client.connected();
            self.send();
        }
    }

    fn settle(&mut self) {
        self.connect();
        let mut rounds = 0;
        loop {
            while self.deliver_to_server() | self.push() | self.deliver_to_client() {
                rounds += 1;
                assert!(rounds < 10_000, "the two ends never come to rest");
            }
            if !self.client.holds_back() {
                break;
            }
            // Time passes.
            self.client.let_go();
            self.send();
        }
    }

    /// `merges`: whether types other than clusters and listeners can't tell what is gone.
    fn check(&self, merges: bool) {
        for kind in KINDS {
            let wanted: BTreeSet<String> = match kind {
                ResourceType::Route => self.routes.clone(),
                ResourceType::Endpoint => self.held(ResourceType::Cluster).into_keys().collect(),
                _ => NAMES.iter().map(ToString::to_string).collect(),
            };
            let held = self.held(kind);
            let there = self.world.of(kind);
            for (name, content) in there.iter().filter(|(name, _)| wanted.contains(*name)) {
                if *content == BAD {
                    let heard = self
                        .refusals
                        .values()
                        .any(|(of, names)| *of == kind && names.contains(name));
                    assert!(heard, "{kind} {name} was never refused");
                } else {
                    assert_eq!(held.get(name), Some(&body(kind, name, *content)), "{kind} {name}");
                }
            }
            for name in held.keys() {
                assert!(wanted.contains(name), "{kind} {name} is held unwanted");
                let lingers = merges && !kind.is_full_state();
                assert!(lingers || there.contains_key(name), "{kind} {name} is held but gone");
            }
        }
        for (nonce, heard) in &self.refusals {
            assert_eq!(Some(heard), self.faults.get(nonce), "the refusal of {nonce}");
        }
        // A refusal that repeats one that was heard is held back, and falls to a newer response.
        for (nonce, fault) in &self.faults {
            let repeats = merges && self.refusals.values().any(|heard| heard == fault);
            assert!(repeats || self.refusals.contains_key(nonce), "{nonce} was never refused");
        }
    }

    fn held(&self, kind: ResourceType) -> BTreeMap<String, Any> {
        let held = self.client.holdings().of(kind);
        let all = held.into_iter().flat_map(|held| held.resources.values());
        all.map(|resource| (resource.name.clone(), Any::clone(&resource.body))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn delta_comes_to_the_servers_state_after_any_history(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut simulation = Simulation::<_, DeltaServer>::new(DeltaClient::new(node()));
        steps.iter().for_each(|step| simulation.step(step));
        simulation.settle();
        simulation.check(false);
    }

    #[test]
    fn sotw_comes_to_the_servers_state_after_any_history(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut simulation = Simulation::<_, SotwServer>::new(SotwClient::new(node()));
        steps.iter().for_each(|step| simulation.step(step));
        simulation.settle();
        simulation.check(true);
    }
}

#[test]
fn a_refusal_that_repeats_another_falls_to_a_newer_response() {
    use Step::{Connect, Push, Put, ToServer, WantRoutes};
    let mut simulation = Simulation::<_, SotwServer>::new(SotwClient::new(node()));
    let start = [Put(3, 2, BAD), Connect, ToServer, Push, ToServer, Push, ToServer];
    let changes = [Put(3, 0, BAD), Push, WantRoutes(14), ToServer, WantRoutes(11), ToServer, Push];
    start.iter().chain(&changes).for_each(|step| simulation.step(step));
    simulation.step(&WantRoutes(13));
    simulation.settle();
    assert!(simulation.faults.len() > simulation.refusals.len(), "none fell");
    simulation.check(true);
}
