//! The incremental variant, receiving end.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use weft_xds_proto::{
    ResourceType,
    any::type_name,
    pb::{
        envoy::{
            config::core::v3::Node,
            service::discovery::v3::{
                DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Wire,
            },
        },
        google::rpc::Status,
    },
};

use super::{ClientProtocol, Holdings, Pending, Received, holdings::life, nack::error_detail};
use crate::{Rejection, Resource, Subscription};

/// The name that stands for every resource of a type.
const EVERYTHING: &str = "*";

/// State of one aggregated, incremental stream and of what came over it and its predecessors.
#[derive(Debug)]
pub struct DeltaClient {
    node: Option<Node>,
    holdings: Holdings,
    wanted: BTreeMap<ResourceType, Subscription>,
    /// By the name under which the server has a resource, the names by which it was asked for.
    aliases: BTreeMap<String, BTreeSet<String>>,
    /// What the server of this stream has been told; `None` without a stream.
    stream: Option<Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    introduced: bool,
    /// Types of which the server may not know what is wanted by now.
    open: BTreeSet<ResourceType>,
    told: BTreeMap<ResourceType, Subscription>,
    acks: VecDeque<Ack>,
}

#[derive(Debug)]
struct Ack {
    kind: ResourceType,
    nonce: String,
    error: Option<Status>,
}

impl DeltaClient {
    /// A client that introduces itself as `node` at the start of each stream.
    #[must_use]
    pub fn new(node: Node) -> Self {
        Self {
            node: Some(node),
            holdings: Holdings::default(),
            wanted: BTreeMap::new(),
            aliases: BTreeMap::new(),
            stream: None,
        }
    }

    /// The first request for a type on a stream: all names, and the versions of what is held.
    fn initial(&self, kind: ResourceType, wanted: &Subscription) -> DeltaDiscoveryRequest {
        let held = self.holdings.of(kind).map(|held| &held.resources);
        DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            // An empty list in the first request is the wildcard that every server understands.
            resource_names_subscribe: match wanted {
                Subscription::Wildcard => Vec::new(),
                Subscription::Names(names) => names.iter().cloned().collect(),
                Subscription::WildcardAnd(names) => with_wildcard(names),
            },
            initial_resource_versions: held
                .into_iter()
                .flatten()
                .map(|(name, resource)| (name.clone(), resource.version.clone()))
                .collect(),
            ..Default::default()
        }
    }

    fn next_subscription(&mut self) -> Option<DeltaDiscoveryRequest> {
        let mut request = None;
        while request.is_none() {
            let kind = self.stream.as_mut()?.open.pop_first()?;
            let Some(wanted) = self.wanted.get(&kind) else { continue };
            request = match self.stream.as_ref()?.told.get(&kind) {
                Some(told) if told == wanted => None,
                Some(told) => Some(change(kind, told, wanted)),
                None if wanted.is_none() => None,
                None => Some(self.initial(kind, wanted)),
            };
            if request.is_some() {
                self.stream.as_mut()?.told.insert(kind, wanted.clone());
            }
        }
        request
    }

    fn read(&mut self, kind: ResourceType, mut wire: Wire, pending: &mut Pending) {
        let Some(wanted) = self.wanted.get(&kind) else { return };
        if !wire.aliases.is_empty() && kind == ResourceType::VirtualHost {
            let aliases = std::mem::take(&mut wire.aliases).into_iter();
            let asked: BTreeSet<_> =
                aliases.filter(|alias| *alias != wire.name && wanted.includes(alias)).collect();
            for alias in &asked {
                let name = alias.clone();
                self.read(kind, Wire { name, ..wire.clone() }, pending);
            }
            if !asked.is_empty() {
                self.aliases.insert(wire.name.clone(), asked);
            }
            return self.read(kind, wire, pending);
        }
        if !wanted.includes(&wire.name) {
            return;
        }
        if wire.resource.is_some() || wire.ttl.is_some() {
            pending.lives.push((wire.name.clone(), life(wire.ttl.as_ref())));
        }
        match wire.resource {
            Some(body) if type_name(&body.type_url) == type_name(kind.type_url()) => {
                pending.added.push(Resource {
                    name: wire.name,
                    version: wire.version,
                    body: Arc::new(body),
                });
            }
            Some(body) => pending.malformed.push(Rejection {
                resource_type: kind,
                name: wire.name,
                field: "resource".into(),
                reason: format!("is a {:?}, not a {:?}", body.type_url, kind.type_url()),
            }),
            // A heartbeat: it prolongs the life of what is held, and nothing else.
            None if wire.ttl.is_some() => {}
            // There is no virtual host for this name.
            None if kind == ResourceType::VirtualHost => pending.removed.push(wire.name),
            None => pending.malformed.push(Rejection {
                resource_type: kind,
                name: wire.name,
                field: "resource".into(),
                reason: "is missing".into(),
            }),
        }
    }
}

impl ClientProtocol for DeltaClient {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn set_subscriptions(&mut self, wanted: Vec<(ResourceType, Subscription)>) {
        let mut all: BTreeMap<_, _> =
            self.wanted.keys().map(|kind| (*kind, Subscription::none())).collect();
        all.extend(wanted);
        for (kind, wanted) in &all {
            self.holdings.keep(*kind, wanted);
            if let Some(before) = self.wanted.get(kind) {
                self.holdings.leave(*kind, before, wanted);
            }
        }
        if let Some(wanted) = all.get(&ResourceType::VirtualHost) {
            self.aliases.retain(|_, asked| {
                asked.retain(|alias| wanted.includes(alias));
                !asked.is_empty()
            });
        }
        if let Some(stream) = &mut self.stream {
            stream.open.extend(all.keys());
        }
        self.wanted = all;
    }

    fn connected(&mut self) {
        let open = self.wanted.keys().copied().collect();
        self.stream = Some(Stream { open, ..Stream::default() });
    }

    fn disconnected(&mut self) {
        self.stream = None;
    }

    fn receive(&mut self, response: DeltaDiscoveryResponse) -> Option<Received> {
        let kind = ResourceType::from_type_url(&response.type_url)?;
        let wanted = self.wanted.get(&kind)?;
        let held = self.holdings.of(kind);
        let mut told = response.removed_resources;
        if kind == ResourceType::VirtualHost {
            let aliases = told.iter().filter_map(|name| self.aliases.remove(name)).flatten();
            told.extend(aliases.collect::<Vec<_>>());
        }
        let removed: BTreeSet<String> = told
            .into_iter()
            .filter(|name| {
                held.is_some_and(|held| held.resources.contains_key(name)) || wanted.names_one(name)
            })
            .collect();
        let mut pending = Pending {
            kind,
            nonce: response.nonce,
            version: response.system_version_info,
            added: Vec::with_capacity(response.resources.len()),
            removed: removed.into_iter().collect(),
            malformed: Vec::new(),
            lives: Vec::new(),
        };
        for wire in response.resources {
            self.read(kind, wire, &mut pending);
        }
        pending.keep_last();
        Some(pending.received(false))
    }

    fn complete(&mut self, pending: Pending, rejected: Vec<Rejection>) {
        let (kind, nonce) = (pending.kind, pending.nonce.clone());
        let none = Subscription::none();
        let wanted = self.wanted.get(&kind).unwrap_or(&none);
        let rejected = self.holdings.take(pending, rejected, wanted);
        if let Some(stream) = &mut self.stream {
            stream.acks.push_back(Ack { kind, nonce, error: error_detail(&rejected) });
        }
    }

    fn next_request(&mut self) -> Option<DeltaDiscoveryRequest> {
        // Acknowledgements and changes of the subscription are never mixed: a server that drops
        // a request for its stale nonce would lose the change.
        let mut request = match self.stream.as_mut()?.acks.pop_front() {
            Some(ack) => DeltaDiscoveryRequest {
                type_url: ack.kind.type_url().to_owned(),
                response_nonce: ack.nonce,
                error_detail: ack.error,
                ..Default::default()
            },
            None => self.next_subscription()?,
        };
        if !std::mem::replace(&mut self.stream.as_mut()?.introduced, true) {
            request.node.clone_from(&self.node);
        }
        Some(request)
    }

    fn expire(&mut self, kind: ResourceType, names: &[String]) {
        self.holdings.forget(kind, names);
    }

    fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    fn wanted(&self) -> &BTreeMap<ResourceType, Subscription> {
        &self.wanted
    }

    fn restore(&mut self, kind: ResourceType, version: &str, resources: Vec<Resource>) {
        self.holdings.restore(kind, version, resources);
    }
}

/// The names that a subscription means on the wire.
fn wire_names(subscription: &Subscription) -> BTreeSet<String> {
    match subscription {
        Subscription::Wildcard => BTreeSet::from([EVERYTHING.to_owned()]),
        Subscription::Names(names) => names.clone(),
        Subscription::WildcardAnd(names) => with_wildcard(names).into_iter().collect(),
    }
}

/// Everything, and these names besides.
pub(super) fn with_wildcard(names: &BTreeSet<String>) -> Vec<String> {
    std::iter::once(EVERYTHING).chain(names.iter().map(String::as_str)).map(Into::into).collect()
}

fn change(kind: ResourceType, told: &Subscription, wanted: &Subscription) -> DeltaDiscoveryRequest {
    let (told, wanted) = (wire_names(told), wire_names(wanted));
    DeltaDiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        resource_names_subscribe: wanted.difference(&told).cloned().collect(),
        resource_names_unsubscribe: told.difference(&wanted).cloned().collect(),
        ..Default::default()
    }
}
