//! Resources as the owner of a client sees them.

use std::{collections::BTreeSet, sync::Arc};

use weft_xds_proto::{Any, ResourceType};

/// Which resources of one type are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// All that the server has for this node. Usual for clusters and listeners.
    Wildcard,
    /// These; none when empty.
    Names(BTreeSet<String>),
    /// All that the server has for this node, and these besides: what is fetched on demand.
    WildcardAnd(BTreeSet<String>),
}

impl Subscription {
    /// A subscription to nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self::Names(BTreeSet::new())
    }

    /// A subscription to the given names.
    pub fn names<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self::Names(names.into_iter().map(Into::into).collect())
    }

    /// Whether a resource of this name is wanted.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        match self {
            Self::Wildcard | Self::WildcardAnd(_) => true,
            Self::Names(names) => names.contains(name),
        }
    }

    /// The names that are asked for one by one.
    #[must_use]
    pub fn named(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::Wildcard => None,
            Self::Names(names) | Self::WildcardAnd(names) => Some(names),
        }
    }

    /// Whether a resource of this name is asked for by its name.
    #[must_use]
    pub fn names_one(&self, name: &str) -> bool {
        self.named().is_some_and(|names| names.contains(name))
    }

    /// Whether nothing is wanted.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Names(names) if names.is_empty())
    }
}

/// One resource as received.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// The name it is subscribed by.
    pub name: String,
    /// Its version; the whole response's in the state-of-the-world variant, and empty with
    /// servers that version only their pushes.
    pub version: String,
    /// The message, of the type that the update names; shared by everybody who keeps it.
    pub body: Arc<Any>,
}

/// One response's worth of resources of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceUpdate {
    /// The type of everything in it.
    pub resource_type: ResourceType,
    /// Version of the push.
    pub version: String,
    /// New and changed resources.
    pub added: Vec<Resource>,
    /// Names of resources that are gone.
    pub removed: Vec<String>,
    /// Whether the response was the full set. `removed` already says what it left out, and
    /// `added` leaves out what did not change.
    pub full: bool,
}

/// A resource that was not accepted, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its type.
    pub resource_type: ResourceType,
    /// Its name.
    pub name: String,
    /// Path of the field at fault; empty for the resource as a whole.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}
