//! The connected nodes, and what each made of what it was sent.

mod asked;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use weft_control_model::{NodeStatus, Rejection, Role};
use weft_translate::{Moved, NodeProfile};
use weft_xds_server::{NodeResources, Refusal, ResourceType, Subscription, TypeResources};

use crate::engine::unix_now;
use asked::Asked;

/// One stream of a node.
struct Connected {
    profile: NodeProfile,
    status: NodeStatus,
    /// The types that it asked for, by name; of others it is sent nothing.
    subscribed: BTreeSet<&'static str>,
    resources: watch::Sender<Arc<NodeResources>>,
}

/// The streams, by number; a node that reconnects may have two for a moment.
#[derive(Default)]
pub(crate) struct Nodes {
    streams: Mutex<Streams>,
}

#[derive(Default)]
struct Streams {
    next: u64,
    by_number: BTreeMap<u64, Connected>,
    asked: Asked,
}

impl Nodes {
    /// A new stream, served from `resources` on.
    pub(crate) fn add(
        &self,
        id: String,
        role: Role,
        profile: NodeProfile,
        resources: NodeResources,
    ) -> (u64, watch::Receiver<Arc<NodeResources>>) {
        let mut status =
            NodeStatus { id, role, connected_since: unix_now(), types: BTreeMap::new() };
        note_sent(&mut status, &NodeResources::default(), &resources);
        let (sender, receiver) = watch::channel(Arc::new(resources));
        let mut streams = self.streams.lock();
        let number = streams.next;
        streams.next += 1;
        let subscribed = BTreeSet::new();
        let connected = Connected { profile, status, subscribed, resources: sender };
        streams.by_number.insert(number, connected);
        (number, receiver)
    }

    pub(crate) fn remove(&self, number: u64) {
        let mut streams = self.streams.lock();
        streams.by_number.remove(&number);
        streams.asked.leave(number);
    }

    /// Gives every node what it is to have now; only those for whom it differs are woken. Those
    /// who ask for virtual hosts are given `hosts`; of them only those are woken who asked for
    /// one that moved.
    pub(crate) fn publish(
        &self,
        moved: &Moved,
        hosts: &Arc<TypeResources>,
        mut of: impl FnMut(&NodeProfile) -> NodeResources,
    ) {
        let mut streams = self.streams.lock();
        let Streams { by_number, asked, .. } = &mut *streams;
        let concerned = match moved {
            Moved::Nothing => return,
            Moved::Hosts(moved) => Some(asked.for_any_of(moved)),
            Moved::Everything => None,
        };
        for (number, stream) in by_number {
            match &concerned {
                Some(concerned) if stream.profile.asks_for_hosts() => {
                    stream.take_hosts(hosts, concerned.contains(number));
                }
                _ => stream.take(of(&stream.profile)),
            }
        }
    }

    pub(crate) fn subscribed(&self, number: u64, kind: ResourceType, subscription: &Subscription) {
        let mut streams = self.streams.lock();
        let Streams { by_number, asked, .. } = &mut *streams;
        let Some(stream) = by_number.get_mut(&number) else { return };
        stream.subscribed.insert(type_name(kind));
        if kind == ResourceType::VirtualHost {
            asked.note(number, subscription.named().into_iter().flatten());
        }
    }

    pub(crate) fn accepted(&self, number: u64, kind: ResourceType, version: &str) {
        // The answer to names that there is nothing of.
        if version.is_empty() {
            return;
        }
        if let Some(stream) = self.streams.lock().by_number.get_mut(&number) {
            // A node that a change did not concern may come to its version later, by asking.
            let current = stream.resources.borrow().of(kind).version == version;
            let status = stream.status.types.entry(type_name(kind).to_owned()).or_default();
            status.accepted = Some(version.to_owned());
            status.rejected = None;
            if current {
                status.sent = Some(version.to_owned());
            }
        }
    }

    pub(crate) fn rejected(&self, number: u64, refusal: &Refusal) {
        if let Some(stream) = self.streams.lock().by_number.get_mut(&number) {
            let kind = type_name(refusal.kind).to_owned();
            stream.status.types.entry(kind).or_default().rejected = Some(Rejection {
                version: refusal.version.clone(),
                reason: refusal.message.clone(),
                at: unix_now(),
            });
        }
    }

    /// What is told of all of them.
    pub(crate) fn statuses(&self) -> Vec<NodeStatus> {
        let streams = self.streams.lock();
        let shown = streams.by_number.values().map(|stream| {
            let mut status = stream.status.clone();
            status.types.retain(|name, _| stream.subscribed.contains(name.as_str()));
            status
        });
        shown.collect()
    }
}

impl Connected {
    fn take(&mut self, new: NodeResources) {
        let status = &mut self.status;
        self.resources.send_if_modified(|known| {
            if same(known, &new) {
                return false;
            }
            note_sent(status, known, &new);
            *known = Arc::new(new);
            true
        });
    }

    /// Takes other virtual hosts alone.
    fn take_hosts(&mut self, hosts: &Arc<TypeResources>, concerned: bool) {
        let status = &mut self.status;
        self.resources.send_if_modified(|known| {
            let kind = ResourceType::VirtualHost;
            if Arc::ptr_eq(known.of(kind), hosts) {
                return false;
            }
            let new = NodeResources::clone(known).with(kind, Arc::clone(hosts));
            if concerned {
                note_sent(status, known, &new);
            }
            *known = Arc::new(new);
            concerned
        });
    }
}

fn same(known: &NodeResources, new: &NodeResources) -> bool {
    known.iter().count() == new.iter().count()
        && new.iter().all(|(kind, resources)| Arc::ptr_eq(known.of(kind), resources))
}

fn note_sent(status: &mut NodeStatus, known: &NodeResources, new: &NodeResources) {
    for (kind, resources) in new.iter() {
        if !Arc::ptr_eq(known.of(kind), resources) {
            let entry = status.types.entry(type_name(kind).to_owned()).or_default();
            entry.sent = Some(resources.version.clone());
        }
    }
}

/// The types as the Admin API names them.
fn type_name(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::Cluster => "cluster",
        ResourceType::Endpoint => "endpoint",
        ResourceType::Listener => "listener",
        ResourceType::ScopedRoute => "scoped_route",
        ResourceType::Route => "route",
        ResourceType::VirtualHost => "virtual_host",
        ResourceType::Secret => "secret",
        ResourceType::ExtensionConfig => "extension_config",
        ResourceType::Runtime => "runtime",
        ResourceType::NameTable => "name_table",
    }
}
