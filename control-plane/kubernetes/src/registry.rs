//! Where Kubernetes' Services run.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use tokio::sync::Notify;
use weft_control_model::{
    Discover, DiscoverError, Discovery, Endpoint, EndpointIdentity, Endpoints, Labels, Locality,
    Lookups, Scheme,
};

use crate::facts::{
    EndpointState, ObjectName, ServiceFacts, SliceEndpoint, SliceFacts, identity_of, locality_of,
    name_of, port_of, service_of,
};
use crate::table::Table;

/// The registry's name in `discovery_type`, APISIX's.
const REGISTRY: &str = "kubernetes";
const EXPECTED: &str = "namespace/service:port, the port by name or number";

/// The endpoints of Kubernetes' Services: `discovery_type: kubernetes` with
/// `service_name: namespace/service:port`.
///
/// Ready endpoints count; where there are none, those that are terminating and still answer.
#[derive(Default)]
pub struct KubernetesRegistry {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    services: Table<ObjectName, ServiceFacts>,
    /// With the service that each belongs to.
    slices: Table<ObjectName, (ObjectName, SliceFacts)>,
    /// The slices' names by service.
    by_service: HashMap<ObjectName, Vec<ObjectName>>,
    pods: Table<ObjectName, EndpointIdentity>,
    nodes: Table<String, Locality>,
    /// What was asked for, with the answer as long as it holds.
    lookups: Lookups<Lookup>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Lookup {
    service: ObjectName,
    /// None for the Service's first.
    port: Option<String>,
    labels: Labels,
}

impl KubernetesRegistry {
    /// Waits until endpoints may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether every kind of object was listed once: before, an empty answer says nothing.
    pub fn is_complete(&self) -> bool {
        let state = self.state.lock();
        state.services.is_complete()
            && state.slices.is_complete()
            && state.pods.is_complete()
            && state.nodes.is_complete()
    }

    pub(crate) fn service(&self, event: Event<Service>) {
        self.update(|state| state.services.take(event, name_of, ServiceFacts::of));
    }

    pub(crate) fn slice(&self, event: Event<EndpointSlice>) {
        self.update(|state| {
            let facts = |slice: &EndpointSlice| Some((service_of(slice)?, SliceFacts::of(slice)?));
            let changed = state.slices.take(event, name_of, facts);
            if changed {
                state.index_slices();
            }
            changed
        });
    }

    pub(crate) fn pod(&self, event: Event<Pod>) {
        self.update(|state| state.pods.take(event, name_of, identity_of));
    }

    pub(crate) fn node(&self, event: Event<Node>) {
        let key = |node: &Node| name_of(node).1;
        self.update(|state| state.nodes.take(event, key, locality_of));
    }

    fn update(&self, take: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state.lock();
        if take(&mut state) && state.refresh() {
            self.changed.notify_one();
        }
    }
}

impl Discover for KubernetesRegistry {
    fn endpoints(&self, service: &Discovery, _: Scheme) -> Result<Endpoints, DiscoverError> {
        if service.registry != REGISTRY {
            return Err(DiscoverError::UnknownRegistry(service.registry.clone()));
        }
        let lookup = Lookup::parse(service)?;
        let mut state = self.state.lock();
        let mut lookups = std::mem::take(&mut state.lookups);
        let found = lookups.answer(lookup, |lookup| state.find(lookup));
        state.lookups = lookups;
        Ok(found)
    }
}

impl Lookup {
    fn parse(service: &Discovery) -> Result<Self, DiscoverError> {
        let bad =
            || DiscoverError::BadName { name: service.service_name.clone(), expected: EXPECTED };
        let (namespace, rest) = service.service_name.split_once('/').ok_or_else(bad)?;
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port.to_owned())),
            None => (rest, None),
        };
        let empty = namespace.is_empty() || name.is_empty() || port.as_deref() == Some("");
        if empty || name.contains('/') {
            return Err(bad());
        }
        let labels = service.wanted_labels("Kubernetes")?;
        Ok(Self { service: (namespace.to_owned(), name.to_owned()), port, labels })
    }

    /// The endpoint's pod has the wanted labels.
    fn chooses(&self, identity: Option<&EndpointIdentity>) -> bool {
        let has =
            |labels: &Labels| self.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        self.labels.is_empty() || identity.is_some_and(|identity| has(&identity.labels))
    }
}

impl State {
    fn index_slices(&mut self) {
        self.by_service.clear();
        for (name, (service, _)) in self.slices.iter() {
            self.by_service.entry(service.clone()).or_default().push(name.clone());
        }
        for names in self.by_service.values_mut() {
            names.sort_unstable();
        }
    }

    /// Whether an answer differs from before.
    fn refresh(&mut self) -> bool {
        let mut lookups = std::mem::take(&mut self.lookups);
        let changed = lookups.refresh(|lookup| self.find(lookup));
        self.lookups = lookups;
        changed
    }

    fn find(&self, lookup: &Lookup) -> Vec<Endpoint> {
        let slices = self.by_service.get(&lookup.service).into_iter().flatten();
        let slices = slices.filter_map(|name| Some(&self.slices.get(name)?.1));
        let mut ready = Vec::new();
        let mut ending = Vec::new();
        for slice in slices {
            let Some(port) = self.port(lookup, slice) else { continue };
            for endpoint in &slice.endpoints {
                let pod = endpoint.pod.clone().map(|pod| (lookup.service.0.clone(), pod));
                let identity = pod.and_then(|pod| self.pods.get(&pod));
                if !lookup.chooses(identity) {
                    continue;
                }
                let address = endpoint.address;
                let found = Endpoint {
                    address,
                    port,
                    weight: 1,
                    identity: identity.cloned(),
                    locality: self.locality(endpoint),
                };
                match endpoint.state {
                    EndpointState::Ready => ready.push(found),
                    EndpointState::Terminating => ending.push(found),
                }
            }
        }
        let mut found = if ready.is_empty() { ending } else { ready };
        // Slices may overlap while endpoints move between them.
        found.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
        found.dedup_by_key(|endpoint| (endpoint.address, endpoint.port));
        found
    }

    /// The node's place; the slice itself knows the zone alone.
    fn locality(&self, endpoint: &SliceEndpoint) -> Option<Locality> {
        let of_node = endpoint.node.as_ref().and_then(|node| self.nodes.get(node)).cloned();
        of_node.or_else(|| {
            let zone = endpoint.zone.clone()?;
            Some(Locality { zone, ..Locality::default() })
        })
    }

    /// The pods' port in a slice: found by the name of the Service's port.
    fn port(&self, lookup: &Lookup, slice: &SliceFacts) -> Option<u16> {
        let service = self.services.get(&lookup.service);
        let Some(wanted) = &lookup.port else {
            let first = service.and_then(|service| service.ports.first());
            return match first {
                Some(first) => slice.ports.get(&first.name).copied(),
                None => slice.ports.values().next().copied(),
            };
        };
        match port_of(wanted) {
            IntOrString::String(name) => slice.ports.get(&name).copied(),
            IntOrString::Int(number) => {
                let ports = service.map(|service| &service.ports).into_iter().flatten();
                let mut named = ports.filter(|port| i32::from(port.number) == number);
                slice.ports.get(&named.next()?.name).copied()
            }
        }
    }
}
