//! The state-of-the-world variant, receiving end.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use weft_xds_proto::{
    Any, ResourceType,
    pb::{
        envoy::{
            config::core::v3::Node,
            service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
        },
        google::rpc::Status,
    },
};

use super::{
    ClientProtocol, Holdings, Pending, Received,
    delta::with_wildcard,
    holdings::{Wrapped, unwrap},
    nack::error_detail,
};
use crate::{Rejection, Resource, Subscription};

/// State of one aggregated stream and of what came over it and its predecessors.
#[derive(Debug)]
pub struct SotwClient {
    node: Option<Node>,
    holdings: Holdings,
    wanted: BTreeMap<ResourceType, Subscription>,
    /// What the server of this stream has been told; `None` without a stream.
    stream: Option<Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    introduced: bool,
    /// Types of which the server may not know what is wanted by now.
    open: BTreeSet<ResourceType>,
    types: BTreeMap<ResourceType, TypeStream>,
    acks: VecDeque<(ResourceType, Option<Status>, String)>,
    /// Version and text of the last refusal, of types of which the last response was refused.
    refused: BTreeMap<ResourceType, (String, String)>,
    /// Refusals that say again what the server knows, with their nonces.
    held_back: BTreeMap<ResourceType, (Status, String)>,
}

impl Stream {
    /// Answers a response, now or later.
    fn answer(
        &mut self,
        kind: ResourceType,
        version: String,
        error: Option<Status>,
        nonce: String,
    ) {
        self.held_back.remove(&kind);
        let Some(error) = error else {
            self.refused.remove(&kind);
            self.acks.push_back((kind, None, nonce));
            return;
        };
        let said = (version, error.message.clone());
        if self.refused.get(&kind) == Some(&said) {
            self.held_back.insert(kind, (error, nonce));
        } else {
            self.refused.insert(kind, said);
            self.acks.push_back((kind, Some(error), nonce));
        }
    }
}

#[derive(Debug)]
struct TypeStream {
    told: Subscription,
    nonce: String,
}

/// What stood in one place of a response.
enum Read {
    /// A resource of this name.
    Resource(String),
    /// A resource that is held lives longer.
    Heartbeat,
}

impl SotwClient {
    /// A client that introduces itself as `node` at the start of each stream.
    #[must_use]
    pub fn new(node: Node) -> Self {
        Self {
            node: Some(node),
            holdings: Holdings::default(),
            wanted: BTreeMap::new(),
            stream: None,
        }
    }

    fn read(&self, index: usize, body: Any, pending: &mut Pending) -> Option<Read> {
        let kind = pending.kind;
        let read = unwrap(body).and_then(|mut wrapped| {
            let Some(body) = wrapped.body.take() else { return Ok((wrapped, None)) };
            let inner = kind.name_of(&body)?;
            wrapped.name.get_or_insert(inner);
            Ok((wrapped, Some(body)))
        });
        match read {
            Ok((Wrapped { name: Some(name), life, .. }, None)) => {
                if self.wanted.get(&kind).is_some_and(|wanted| wanted.includes(&name)) {
                    pending.lives.push((name, life));
                }
                Some(Read::Heartbeat)
            }
            Ok((Wrapped { name: None, .. }, _)) => None,
            Ok((Wrapped { name: Some(name), life, .. }, Some(body))) => {
                let wanted = self.wanted.get(&kind).is_some_and(|wanted| wanted.includes(&name));
                if wanted {
                    pending.lives.push((name.clone(), life));
                }
                let unchanged = kind.is_full_state() && self.holdings.has(kind, &name, &body);
                if wanted && !unchanged {
                    let version = pending.version.clone();
                    pending.added.push(Resource {
                        name: name.clone(),
                        version,
                        body: Arc::new(body),
                    });
                }
                Some(Read::Resource(name))
            }
            Err(error) => {
                pending.malformed.push(Rejection {
                    resource_type: kind,
                    name: format!("resources[{index}]"),
                    field: String::new(),
                    reason: error.to_string(),
                });
                None
            }
        }
    }

    /// The type whose subscription the server of this stream does not know yet.
    fn unannounced(&mut self) -> Option<ResourceType> {
        let stream = self.stream.as_mut()?;
        while let Some(kind) = stream.open.pop_first() {
            let Some(wanted) = self.wanted.get(&kind) else { continue };
            let unknown = match stream.types.get(&kind) {
                Some(told) => told.told != *wanted,
                None => !wanted.is_none(),
            };
            if unknown {
                return Some(kind);
            }
        }
        None
    }

    fn request(&mut self, kind: ResourceType, error: Option<Status>) -> Option<DiscoveryRequest> {
        let wanted = self.wanted.get(&kind)?;
        let stream = self.stream.as_mut()?;
        let told = stream
            .types
            .entry(kind)
            .or_insert_with(|| TypeStream { told: wanted.clone(), nonce: String::new() });
        told.told.clone_from(wanted);
        let first = !std::mem::replace(&mut stream.introduced, true);
        Some(DiscoveryRequest {
            version_info: self.holdings.version(kind),
            node: if first { self.node.clone() } else { None },
            resource_names: match wanted {
                Subscription::Wildcard => Vec::new(),
                Subscription::Names(names) => names.iter().cloned().collect(),
                Subscription::WildcardAnd(names) => with_wildcard(names),
            },
            type_url: kind.type_url().to_owned(),
            response_nonce: told.nonce.clone(),
            error_detail: error,
            ..Default::default()
        })
    }
}

impl ClientProtocol for SotwClient {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn set_subscriptions(&mut self, wanted: Vec<(ResourceType, Subscription)>) {
        let mut all: BTreeMap<_, _> =
            self.wanted.keys().map(|kind| (*kind, Subscription::none())).collect();
        all.extend(wanted);
        for (kind, wanted) in &all {
            self.holdings.keep(*kind, wanted);
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

    fn receive(&mut self, response: DiscoveryResponse) -> Option<Received> {
        let kind = ResourceType::from_type_url(&response.type_url)?;
        self.wanted.get(&kind)?;
        let mut pending = Pending {
            kind,
            nonce: response.nonce,
            version: response.version_info,
            added: Vec::with_capacity(response.resources.len()),
            removed: Vec::new(),
            malformed: Vec::new(),
            lives: Vec::new(),
        };
        let mut named = BTreeSet::new();
        let mut heartbeats = false;
        for (index, body) in response.resources.into_iter().enumerate() {
            match self.read(index, body, &mut pending) {
                Some(Read::Resource(name)) => {
                    named.insert(name);
                }
                Some(Read::Heartbeat) => heartbeats = true,
                None => {}
            }
        }
        pending.keep_last();
        // A response with heartbeats leaves out what has no end.
        let full = kind.is_full_state() && !heartbeats;
        // With a resource whose name can't be read, nobody knows what the response left out.
        if full && pending.malformed.is_empty() {
            let held = self.holdings.of(kind).into_iter().flat_map(|held| held.resources.keys());
            pending.removed = held.filter(|name| !named.contains(*name)).cloned().collect();
        }
        Some(pending.received(full))
    }

    fn complete(&mut self, pending: Pending, rejected: Vec<Rejection>) {
        let (kind, version, nonce) = (pending.kind, pending.version.clone(), pending.nonce.clone());
        let none = Subscription::none();
        let wanted = self.wanted.get(&kind).unwrap_or(&none);
        let rejected = self.holdings.take(pending, rejected, wanted);
        if let Some(stream) = &mut self.stream {
            stream.answer(kind, version, error_detail(&rejected), nonce);
        }
    }

    fn next_request(&mut self) -> Option<DiscoveryRequest> {
        let stream = self.stream.as_mut()?;
        if let Some((kind, error, nonce)) = stream.acks.pop_front() {
            if let Some(told) = stream.types.get_mut(&kind) {
                told.nonce = nonce;
            }
            return self.request(kind, error);
        }
        let kind = self.unannounced()?;
        // The server hears only the nonce of its last response.
        let stream = self.stream.as_mut()?;
        let (error, nonce) = stream.held_back.remove(&kind).unzip();
        if let (Some(nonce), Some(told)) = (nonce, stream.types.get_mut(&kind)) {
            told.nonce = nonce;
        }
        self.request(kind, error)
    }

    fn holds_back(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.held_back.is_empty())
    }

    fn let_go(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let held = std::mem::take(&mut stream.held_back).into_iter();
        stream.acks.extend(held.map(|(kind, (error, nonce))| (kind, Some(error), nonce)));
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
