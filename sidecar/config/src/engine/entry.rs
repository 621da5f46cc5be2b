//! A resource of one name in its versions.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use weft_filters::config::FieldError;
use weft_xds_client::Resource;
use weft_xds_proto::Any;

/// Who brought a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The bootstrap file; nobody changes it.
    Static,
    /// The control plane.
    Dynamic,
}

/// One version of a resource.
#[derive(Debug)]
pub(super) struct Version<T> {
    pub(super) value: T,
    pub(super) raw: Arc<Any>,
    pub(super) version: String,
    pub(super) updated: SystemTime,
    /// When it began to wait.
    pub(super) since: Instant,
}

/// A version that was not accepted.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) raw: Arc<Any>,
    pub(super) version: String,
    pub(super) at: SystemTime,
    pub(super) error: FieldError,
}

/// All versions of the resource of one name.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) origin: Origin,
    /// The one that serves.
    pub(super) active: Option<Version<T>>,
    /// The one that will.
    pub(super) warming: Option<Version<T>>,
    /// The last one, if it was refused.
    pub(super) refused: Option<Refused>,
}

impl<T> Entry<T> {
    pub(super) fn new(origin: Origin) -> Self {
        Self { origin, active: None, warming: None, refused: None }
    }

    /// Whether `resource` is the version that came last.
    pub(super) fn is_current(&self, resource: &Resource) -> bool {
        let last = self.warming.as_ref().or(self.active.as_ref());
        last.is_some_and(|last| last.raw == resource.body)
    }

    /// Notes that the control plane sent the same thing under another version.
    pub(super) fn confirm(&mut self, version: &str) {
        self.refused = None;
        if let Some(last) = self.warming.as_mut().or(self.active.as_mut()) {
            version.clone_into(&mut last.version);
        }
    }

    /// Notes that a version was refused.
    pub(super) fn refuse(&mut self, resource: &Resource, version: &str, error: &FieldError) {
        self.refused = Some(Refused {
            raw: Arc::clone(&resource.body),
            version: version.to_owned(),
            at: SystemTime::now(),
            error: error.clone(),
        });
    }

    /// Takes a new version, which waits.
    pub(super) fn take(&mut self, resource: &Resource, version: &str, value: T, now: Instant) {
        self.refused = None;
        self.warming = Some(Version {
            value,
            raw: Arc::clone(&resource.body),
            version: version.to_owned(),
            updated: SystemTime::now(),
            since: now,
        });
    }

    /// Every version that is in use or will be.
    pub(super) fn live(&self) -> impl Iterator<Item = &Version<T>> {
        self.active.iter().chain(&self.warming)
    }
}
