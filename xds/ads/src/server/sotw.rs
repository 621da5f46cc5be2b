//! The state-of-the-world variant, sending end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weft_xds_proto::{
    ResourceType,
    pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
};

use super::{
    ServerEvent, ServerProtocol,
    observed::{Unanswered, endpoints_of},
};
use crate::{NodeResources, Subscription, TypeResources, VersionedResource};

/// The name that stands for every resource of a type.
const EVERYTHING: &str = "*";

/// One state-of-the-world stream.
#[derive(Debug, Default)]
pub struct SotwServer {
    types: BTreeMap<ResourceType, TypeStream>,
    nonces: u64,
}

#[derive(Debug, Default)]
struct TypeStream {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Versions of the resources that the client was last sent.
    sent: BTreeMap<String, String>,
    /// The set that `sent` was last compared with.
    compared: Option<Arc<TypeResources>>,
    /// The client waits for an answer even if nothing changed.
    owes_answer: bool,
    /// The subscription changed, and nobody was told yet.
    resubscribed: bool,
    /// Nonce of the last push.
    nonce: String,
    unanswered: Unanswered,
    /// A version that the client has without a push; not told yet.
    reached: Option<String>,
}

type Found<'a> = (&'a String, &'a Arc<VersionedResource>);

impl TypeStream {
    fn subscribe(&mut self, names: Vec<String>, first: bool, wildcard_type: bool) {
        let everything = names.iter().any(|name| name == EVERYTHING);
        let names: BTreeSet<String> = names.into_iter().filter(|name| name != EVERYTHING).collect();
        // An empty list means everything until the stream has once named something.
        let wildcard = everything
            || (names.is_empty()
                && wildcard_type
                && (first || (self.wildcard && self.names.is_empty())));
        if !first && wildcard == self.wildcard && names == self.names {
            return;
        }
        self.owes_answer |= wildcard && !self.wildcard;
        (self.wildcard, self.names) = (wildcard, names);
        self.compared = None;
        self.resubscribed = true;
        if !self.wildcard {
            let names = &self.names;
            self.sent.retain(|name, _| names.contains(name));
        }
    }

    fn wanted<'a>(&self, set: &'a TypeResources) -> Vec<Found<'a>> {
        if self.wildcard {
            return set.resources.iter().collect();
        }
        self.names.iter().filter_map(|name| set.resources.get_key_value(name)).collect()
    }

    /// What a push has to hold: everything wanted if that differs at all from what was sent, for
    /// types whose pushes are the full set; only what differs for the others.
    fn due<'a>(&self, set: &'a TypeResources, full: bool) -> Option<Vec<Found<'a>>> {
        let wanted = self.wanted(set);
        let differs =
            |(name, resource): &Found<'a>| self.sent.get(*name) != Some(&resource.version);
        if full {
            let changed =
                self.owes_answer || wanted.len() != self.sent.len() || wanted.iter().any(differs);
            return changed.then_some(wanted);
        }
        let changed: Vec<_> = wanted.into_iter().filter(differs).collect();
        (self.owes_answer || !changed.is_empty()).then_some(changed)
    }
}

impl SotwServer {
    fn push(&mut self, kind: ResourceType, set: &Arc<TypeResources>) -> Option<DiscoveryResponse> {
        let full = kind.is_full_state();
        let stream = self.types.get_mut(&kind)?;
        let settled = stream.compared.as_ref().is_some_and(|compared| Arc::ptr_eq(compared, set));
        if settled && !stream.owes_answer {
            return None;
        }
        stream.compared = Some(set.clone());
        stream.sent.retain(|name, _| full || set.resources.contains_key(name));
        let Some(due) = stream.due(set, full) else {
            stream.reached = stream.unanswered.reached(&set.version);
            return None;
        };
        stream.owes_answer = false;
        let changed: Vec<Found<'_>> = due
            .iter()
            .copied()
            .filter(|(name, resource)| stream.sent.get(*name) != Some(&resource.version))
            .collect();
        if full {
            stream.sent.clear();
        }
        let versions = due.iter().map(|(name, one)| ((*name).clone(), one.version.clone()));
        stream.sent.extend(versions);
        self.nonces += 1;
        stream.nonce = self.nonces.to_string();
        let names = due.iter().map(|(name, _)| (*name).clone()).collect();
        stream.unanswered.sent(&stream.nonce, &set.version, names);
        let nonce = stream.nonce.clone();
        if kind == ResourceType::Cluster {
            self.send_endpoints_again(&changed);
        }
        Some(DiscoveryResponse {
            version_info: set.version.clone(),
            resources: due.into_iter().map(|(_, resource)| resource.body.clone()).collect(),
            type_url: kind.type_url().to_owned(),
            nonce,
            ..Default::default()
        })
    }

    fn send_endpoints_again(&mut self, clusters: &[Found<'_>]) {
        let Some(endpoints) = self.types.get_mut(&ResourceType::Endpoint) else { return };
        for name in endpoints_of(clusters.iter().map(|(_, resource)| &resource.body)) {
            if endpoints.sent.remove(&name).is_some() {
                endpoints.compared = None;
            }
        }
    }
}

impl ServerProtocol for SotwServer {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn receive(&mut self, request: DiscoveryRequest) -> ServerEvent {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else {
            return ServerEvent::UnknownType(request.type_url);
        };
        let first = !self.types.contains_key(&kind);
        let stream = self.types.entry(kind).or_default();
        let wildcard_type = kind.is_full_state();
        if first || (request.response_nonce.is_empty() && stream.nonce.is_empty()) {
            // A nonce in the first request is another stream's, and means nothing here.
            stream.subscribe(request.resource_names, first, wildcard_type);
            return ServerEvent::Subscribed(kind);
        }
        // A request that a push has overtaken answers nothing, but still tells which names were
        // wanted when it was sent: who left a name and came back to it has forgotten it.
        stream.subscribe(request.resource_names, false, wildcard_type);
        if request.response_nonce != stream.nonce {
            let Some(error) = request.error_detail else { return ServerEvent::Stale(kind) };
            return stream.unanswered.answered(kind, &request.response_nonce, Some(error));
        }
        let event = stream.unanswered.answered(kind, &request.response_nonce, request.error_detail);
        match event {
            // Answered before: this is a change of the subscription alone.
            ServerEvent::Stale(kind) => ServerEvent::Subscribed(kind),
            event => event,
        }
    }

    fn next_response(&mut self, resources: &NodeResources) -> Option<DiscoveryResponse> {
        let kinds: Vec<ResourceType> = self.types.keys().copied().collect();
        kinds.into_iter().find_map(|kind| self.push(kind, resources.of(kind)))
    }

    fn up_to_date(&mut self) -> Option<(ResourceType, String)> {
        self.types.iter_mut().find_map(|(kind, stream)| Some((*kind, stream.reached.take()?)))
    }

    fn changed_subscription(&mut self) -> Option<(ResourceType, Subscription)> {
        let (kind, stream) = self.types.iter_mut().find(|(_, stream)| stream.resubscribed)?;
        stream.resubscribed = false;
        let subscription = if stream.wildcard {
            Subscription::Wildcard
        } else {
            Subscription::Names(stream.names.clone())
        };
        Some((*kind, subscription))
    }
}
