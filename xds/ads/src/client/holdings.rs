//! What a client has accepted.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use weft_xds_proto::{
    Any, AnyError, ResourceType,
    pb::{
        envoy::service::discovery::v3::Resource as Wrapper,
        google::protobuf::Duration as PbDuration,
    },
    unpack,
};

use super::{Pending, Received};
use crate::{Rejection, Resource, ResourceUpdate, Subscription};

/// Accepted resources of one type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// Version of the last push that was accepted as a whole.
    pub version: String,
    /// The resources by name.
    pub resources: BTreeMap<String, Resource>,
}

/// Everything that a client has accepted, by type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holdings {
    types: BTreeMap<ResourceType, Held>,
}

impl Holdings {
    /// What is held of one type.
    #[must_use]
    pub fn of(&self, kind: ResourceType) -> Option<&Held> {
        self.types.get(&kind)
    }

    /// Everything held, in push order.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceType, &Held)> {
        self.types.iter().map(|(kind, held)| (*kind, held))
    }

    pub(super) fn version(&self, kind: ResourceType) -> String {
        self.of(kind).map(|held| held.version.clone()).unwrap_or_default()
    }

    pub(super) fn restore(&mut self, kind: ResourceType, version: &str, resources: Vec<Resource>) {
        let held = self.types.entry(kind).or_default();
        version.clone_into(&mut held.version);
        held.resources = resources.into_iter().map(|one| (one.name.clone(), one)).collect();
    }

    /// Forgets what is no longer wanted.
    pub(super) fn keep(&mut self, kind: ResourceType, wanted: &Subscription) {
        if let Some(held) = self.types.get_mut(&kind) {
            held.resources.retain(|name, _| wanted.includes(name));
        }
    }

    /// Forgets what was asked for by name and is so no longer. The server says anew whether it
    /// is a part of everything.
    pub(super) fn leave(
        &mut self,
        kind: ResourceType,
        before: &Subscription,
        wanted: &Subscription,
    ) {
        let (Some(held), Some(before)) = (self.types.get_mut(&kind), before.named()) else {
            return;
        };
        for name in before.iter().filter(|name| !wanted.names_one(name)) {
            held.resources.remove(name);
        }
    }

    /// Forgets these.
    pub(super) fn forget(&mut self, kind: ResourceType, names: &[String]) {
        if let Some(held) = self.types.get_mut(&kind) {
            held.resources.retain(|name, _| !names.contains(name));
        }
    }

    /// Takes over what was accepted of a response; returns everything that was rejected of it.
    pub(super) fn take(
        &mut self,
        pending: Pending,
        rejected: Vec<Rejection>,
        wanted: &Subscription,
    ) -> Vec<Rejection> {
        let held = self.types.entry(pending.kind).or_default();
        for name in &pending.removed {
            held.resources.remove(name);
        }
        let refused: BTreeSet<&str> = rejected.iter().map(|one| one.name.as_str()).collect();
        for resource in pending.added {
            let kept = wanted.includes(&resource.name);
            if kept && !refused.contains(resource.name.as_str()) {
                held.resources.insert(resource.name.clone(), resource);
            }
        }
        let mut all = pending.malformed;
        all.extend(rejected);
        if all.is_empty() {
            held.version = pending.version;
        }
        all
    }

    /// Whether exactly this body is held under this name.
    pub(super) fn has(&self, kind: ResourceType, name: &str, body: &Any) -> bool {
        self.of(kind)
            .and_then(|held| held.resources.get(name))
            .is_some_and(|resource| *resource.body == *body)
    }
}

impl Pending {
    /// Of a resource that was sent twice the last one counts.
    pub(super) fn keep_last(&mut self) {
        let mut seen = HashSet::with_capacity(self.added.len());
        let names = self.added.iter().rev().map(|one| one.name.as_str());
        let mut last: Vec<bool> = names.map(|name| seen.insert(name)).collect();
        if seen.len() < self.added.len() {
            self.added.retain(|_| last.pop().unwrap_or_default());
        }
    }

    /// What comes of a response, besides what waits for its acknowledgement.
    pub(super) fn received(mut self, full: bool) -> Received {
        let lives = std::mem::take(&mut self.lives);
        Received { update: self.update(full), lives, pending: self }
    }

    fn update(&self, full: bool) -> ResourceUpdate {
        ResourceUpdate {
            resource_type: self.kind,
            version: self.version.clone(),
            added: self.added.clone(),
            removed: self.removed.clone(),
            full,
        }
    }
}

/// A resource out of its wrapper, if it has one.
pub(super) struct Wrapped {
    pub(super) name: Option<String>,
    /// `ttl`
    pub(super) life: Option<Duration>,
    /// `None`: a heartbeat.
    pub(super) body: Option<Any>,
}

/// Opens the wrapper that may stand around a resource in the state-of-the-world variant.
pub(super) fn unwrap(body: Any) -> Result<Wrapped, AnyError> {
    if !weft_xds_proto::any::is::<Wrapper>(&body) {
        return Ok(Wrapped { name: None, life: None, body: Some(body) });
    }
    let wrapper: Wrapper = unpack(&body)?;
    let heartbeat = wrapper.resource.is_none() && wrapper.ttl.is_some();
    Ok(Wrapped {
        name: Some(wrapper.name).filter(|name| !name.is_empty()),
        life: life(wrapper.ttl.as_ref()),
        body: (!heartbeat).then(|| wrapper.resource.unwrap_or_default()),
    })
}

/// A `ttl`.
pub(super) fn life(ttl: Option<&PbDuration>) -> Option<Duration> {
    let ttl = ttl?;
    let seconds = u64::try_from(ttl.seconds).unwrap_or_default();
    Some(Duration::new(seconds, u32::try_from(ttl.nanos).unwrap_or_default().min(999_999_999)))
}
