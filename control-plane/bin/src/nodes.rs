//! The connected nodes, and what each made of what it was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use weft_control_model::{NodeStatus, Rejection, Role, TypeStatus};
use weft_translate::NodeProfile;
use weft_xds_server::{NodeResources, Refusal, ResourceType};

use crate::engine::unix_now;

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
        self.streams.lock().by_number.remove(&number);
    }

    /// Gives every node what it is to have now; only those for whom it differs are woken.
    pub(crate) fn publish(&self, mut of: impl FnMut(&NodeProfile) -> NodeResources) {
        let mut streams = self.streams.lock();
        for stream in streams.by_number.values_mut() {
            let new = of(&stream.profile);
            let status = &mut stream.status;
            stream.resources.send_if_modified(|known| {
                if same(known, &new) {
                    return false;
                }
                note_sent(status, known, &new);
                *known = Arc::new(new);
                true
            });
        }
    }

    pub(crate) fn subscribed(&self, number: u64, kind: ResourceType) {
        if let Some(stream) = self.streams.lock().by_number.get_mut(&number) {
            stream.subscribed.insert(type_name(kind));
        }
    }

    pub(crate) fn accepted(&self, number: u64, kind: ResourceType, version: &str) {
        // The answer to names that there is nothing of.
        if version.is_empty() {
            return;
        }
        self.with_type(number, kind, |status| {
            status.accepted = Some(version.to_owned());
            status.rejected = None;
        });
    }

    pub(crate) fn rejected(&self, number: u64, refusal: &Refusal) {
        self.with_type(number, refusal.kind, |status| {
            status.rejected = Some(Rejection {
                version: refusal.version.clone(),
                reason: refusal.message.clone(),
                at: unix_now(),
            });
        });
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

    fn with_type(&self, number: u64, kind: ResourceType, change: impl FnOnce(&mut TypeStatus)) {
        if let Some(stream) = self.streams.lock().by_number.get_mut(&number) {
            change(stream.status.types.entry(type_name(kind).to_owned()).or_default());
        }
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
