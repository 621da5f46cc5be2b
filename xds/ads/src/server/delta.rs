//! The incremental variant, sending end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weft_xds_proto::{
    ResourceType,
    pb::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Wire,
    },
};

use super::{
    ServerEvent, ServerProtocol,
    observed::{Unanswered, endpoints_of},
};
use crate::{NodeResources, Subscription, TypeResources, VersionedResource};

/// The name that stands for every resource of a type.
const EVERYTHING: &str = "*";

/// One incremental stream.
#[derive(Debug, Default)]
pub struct DeltaServer {
    types: BTreeMap<ResourceType, TypeStream>,
    nonces: u64,
}

#[derive(Debug, Default)]
struct TypeStream {
    wildcard: bool,
    names: BTreeSet<String>,
    /// What the client has: the version of each resource, `None` where it knows that there is
    /// none of that name.
    known: BTreeMap<String, Option<String>>,
    /// The set that `known` was last compared with; compared again only when the set or the
    /// subscription changed.
    compared: Option<Arc<TypeResources>>,
    /// The client waits for an answer even if there is nothing to tell.
    owes_answer: bool,
    /// The subscription changed, and nobody was told yet.
    resubscribed: bool,
    /// Names that the client left while it wants everything: it does not know whether they are a
    /// part of that.
    unsure: BTreeSet<String>,
    unanswered: Unanswered,
    /// A version that the client has without a push; not told yet.
    reached: Option<String>,
}

type Found = (String, Arc<VersionedResource>);

impl TypeStream {
    fn subscribe(&mut self, request: DeltaDiscoveryRequest, first: bool, wildcard_type: bool) {
        let DeltaDiscoveryRequest {
            resource_names_subscribe: subscribed,
            resource_names_unsubscribe: unsubscribed,
            initial_resource_versions: held,
            ..
        } = request;
        if first {
            self.known = held.into_iter().map(|(name, version)| (name, Some(version))).collect();
            if subscribed.is_empty() && wildcard_type {
                self.wildcard = true;
                self.owes_answer = true;
            }
        }
        if !subscribed.is_empty() || !unsubscribed.is_empty() || first {
            self.compared = None;
            self.resubscribed = true;
        }
        for name in subscribed {
            if name == EVERYTHING {
                self.wildcard = true;
                self.owes_answer = true;
                continue;
            }
            // Who asks for a name again has forgotten what it had of it, unless it says so.
            if !first {
                self.known.remove(&name);
            }
            self.unsure.remove(&name);
            self.names.insert(name);
        }
        for name in unsubscribed {
            if name == EVERYTHING {
                self.wildcard = false;
            } else if self.names.remove(&name) && self.wildcard {
                self.known.remove(&name);
                self.unsure.insert(name);
            }
        }
        if !self.wildcard {
            let names = &self.names;
            self.known.retain(|name, _| names.contains(name));
            self.unsure.clear();
        }
    }

    /// Resources that the client wants and does not have in their present version.
    fn changed(&self, set: &TypeResources) -> Vec<Found> {
        let differs = |name: &str, resource: &VersionedResource| {
            self.known.get(name).and_then(Option::as_ref) != Some(&resource.version)
        };
        let announced = self.wildcard.then_some(&set.resources).into_iter().flatten();
        let announced = announced.filter(|(name, resource)| differs(name, resource));
        let mut changed: Vec<Found> =
            announced.map(|(name, resource)| (name.clone(), Arc::clone(resource))).collect();
        for name in &self.names {
            if self.wildcard && set.resources.contains_key(name) {
                continue;
            }
            if let Some(resource) = set.named(name).filter(|resource| differs(name, resource)) {
                changed.push((name.clone(), resource));
            }
        }
        changed
    }

    /// Names that the client has or waits for, and that do not exist.
    fn gone(&self, set: &TypeResources) -> Vec<String> {
        let missing = |name: &&String| {
            let asked = self.names.contains(*name);
            !(set.resources.contains_key(*name) || asked && set.named(name).is_some())
        };
        let had = self.known.iter().filter(|(_, version)| version.is_some()).map(|(name, _)| name);
        let unheard = self.names.iter().filter(|name| !self.known.contains_key(*name));
        let all = had.chain(unheard).chain(&self.unsure);
        let gone: BTreeSet<&String> = all.filter(missing).collect();
        gone.into_iter().cloned().collect()
    }

    /// Takes out those that the client never had, where it is told so by an empty resource
    /// (Envoy: a virtual host that can't be found).
    fn take_empty(&mut self, kind: ResourceType, removed: &mut Vec<String>) -> Vec<String> {
        self.unsure.retain(|name| !removed.contains(name));
        if kind != ResourceType::VirtualHost {
            return Vec::new();
        }
        let had = |name: &String| self.known.get(name).is_some_and(Option::is_some);
        let (kept, empty) = std::mem::take(removed).into_iter().partition(had);
        *removed = kept;
        empty
    }

    fn is_settled(&self, set: &Arc<TypeResources>) -> bool {
        self.compared.as_ref().is_some_and(|compared| Arc::ptr_eq(compared, set))
            && !self.owes_answer
    }
}

impl DeltaServer {
    /// What is new or changed; `with_removals` adds what is gone.
    fn push(
        &mut self,
        kind: ResourceType,
        set: &Arc<TypeResources>,
        with_removals: bool,
    ) -> Option<DeltaDiscoveryResponse> {
        let stream = self.types.get_mut(&kind)?;
        if stream.is_settled(set) {
            return None;
        }
        let changed = stream.changed(set);
        let mut removed = if with_removals { stream.gone(set) } else { Vec::new() };
        if with_removals {
            stream.compared = Some(set.clone());
        }
        let owed = with_removals && std::mem::take(&mut stream.owes_answer);
        if changed.is_empty() && removed.is_empty() && !owed {
            if with_removals {
                stream.reached = stream.unanswered.reached(&set.version);
            }
            return None;
        }
        stream.owes_answer = false;
        for (name, resource) in &changed {
            stream.known.insert(name.clone(), Some(resource.version.clone()));
            stream.unsure.remove(name);
        }
        let empty = stream.take_empty(kind, &mut removed);
        for name in removed.iter().chain(&empty) {
            if stream.names.contains(name) {
                stream.known.insert(name.clone(), None);
            } else {
                stream.known.remove(name);
            }
        }
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        let mut names: Vec<String> = changed.iter().map(|(name, _)| name.clone()).collect();
        names.extend(removed.iter().chain(&empty).cloned());
        stream.unanswered.sent(&nonce, &set.version, names);
        if kind == ResourceType::Cluster {
            self.send_endpoints_again(&changed);
        }
        Some(DeltaDiscoveryResponse {
            system_version_info: set.version.clone(),
            resources: changed
                .into_iter()
                .map(wire)
                .chain(empty.into_iter().map(nothing))
                .collect(),
            type_url: kind.type_url().to_owned(),
            removed_resources: removed,
            nonce,
            ..Default::default()
        })
    }

    fn send_endpoints_again(&mut self, clusters: &[Found]) {
        let Some(endpoints) = self.types.get_mut(&ResourceType::Endpoint) else { return };
        for name in endpoints_of(clusters.iter().map(|(_, resource)| &resource.body)) {
            if endpoints.known.remove(&name).is_some() {
                endpoints.compared = None;
            }
        }
    }
}

impl ServerProtocol for DeltaServer {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn receive(&mut self, mut request: DeltaDiscoveryRequest) -> ServerEvent {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return ServerEvent::UnknownType(request.type_url);
        };
        let first = !self.types.contains_key(&kind);
        let nonce = std::mem::take(&mut request.response_nonce);
        let error = request.error_detail.take();
        let stream = self.types.entry(kind).or_default();
        stream.subscribe(request, first, kind.is_full_state());
        if nonce.is_empty() || first {
            return ServerEvent::Subscribed(kind);
        }
        stream.unanswered.answered(kind, &nonce, error)
    }

    /// Clusters and endpoints that are gone are told last, when nothing refers to them anymore.
    fn next_response(&mut self, resources: &NodeResources) -> Option<DeltaDiscoveryResponse> {
        let kinds: Vec<ResourceType> = self.types.keys().copied().collect();
        let late = |kind| matches!(kind, ResourceType::Cluster | ResourceType::Endpoint);
        let additions = kinds.iter().map(|kind| (*kind, !late(*kind)));
        let removals = kinds.iter().copied().filter(|kind| late(*kind)).map(|kind| (kind, true));
        for (kind, with_removals) in additions.chain(removals.rev()) {
            if let Some(response) = self.push(kind, resources.of(kind), with_removals) {
                return Some(response);
            }
        }
        None
    }

    fn up_to_date(&mut self) -> Option<(ResourceType, String)> {
        self.types.iter_mut().find_map(|(kind, stream)| Some((*kind, stream.reached.take()?)))
    }

    fn changed_subscription(&mut self) -> Option<(ResourceType, Subscription)> {
        let (kind, stream) = self.types.iter_mut().find(|(_, stream)| stream.resubscribed)?;
        stream.resubscribed = false;
        let names = stream.names.clone();
        let subscription = match (stream.wildcard, names.is_empty()) {
            (true, true) => Subscription::Wildcard,
            (true, false) => Subscription::WildcardAnd(names),
            (false, _) => Subscription::Names(names),
        };
        Some((*kind, subscription))
    }
}

fn wire((name, resource): Found) -> Wire {
    Wire {
        name,
        version: resource.version.clone(),
        resource: Some(resource.body.clone()),
        ..Default::default()
    }
}

/// Tells that there is no resource of a name.
fn nothing(name: String) -> Wire {
    Wire { aliases: vec![name.clone()], name, ..Default::default() }
}
