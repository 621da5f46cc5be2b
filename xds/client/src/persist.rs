//! Writing the cache behind the driver's back.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use tokio::{task::JoinHandle, time::Instant};
use weft_xds_ads::{Holdings, ResourceType};
use weft_xds_proto::pb::envoy::config::core::v3::Node;

use crate::{
    Cache, CacheError, CachedState, ClientConfig,
    journal::{Journal, replay},
};

/// Collects changes for a while, then has them written.
#[derive(Debug)]
pub(crate) struct Persist {
    path: Option<PathBuf>,
    node: Node,
    delay: Duration,
    due: Option<Instant>,
    changes: Changes,
    /// The cache that this process has written, if changes can be appended to it.
    journal: Option<Journal>,
    writing: Option<JoinHandle<Result<Journal, CacheError>>>,
}

/// What has changed since it was written.
#[derive(Debug, Default)]
struct Changes {
    /// Endpoints by name.
    endpoints: BTreeSet<String>,
    /// Something else.
    other: bool,
}

impl Persist {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self {
            path: config.cache.clone(),
            node: config.node.clone(),
            delay: config.cache_delay,
            due: None,
            changes: Changes::default(),
            journal: None,
            writing: None,
        }
    }

    /// Reads the file.
    pub(crate) async fn load(&self) -> Result<Option<CachedState>, CacheError> {
        let Some(path) = self.path.clone() else { return Ok(None) };
        let node = self.node.clone();
        let load = move || {
            let mut state = Cache::load(&path, &node)?;
            if let Some(state) = &mut state {
                replay(&path, state).map_err(|source| CacheError::Io { path, source })?;
            }
            Ok(state)
        };
        match tokio::task::spawn_blocking(load).await {
            Ok(loaded) => loaded,
            // The runtime is shutting down.
            Err(_) => Ok(None),
        }
    }

    /// Something to be kept has changed. The first change of a series sets the time.
    pub(crate) fn changed(&mut self) {
        self.changes.other = true;
        self.set_due();
    }

    /// These resources have changed, or are gone.
    pub(crate) fn resources_changed<'a>(
        &mut self,
        kind: ResourceType,
        names: impl Iterator<Item = &'a String>,
    ) {
        if kind != ResourceType::Endpoint {
            return self.changed();
        }
        if self.path.is_some() {
            self.changes.endpoints.extend(names.cloned());
        }
        self.set_due();
    }

    fn set_due(&mut self) {
        if self.path.is_some() && self.due.is_none() {
            self.due = Some(Instant::now() + self.delay);
        }
    }

    /// Comes back when the file is to be written, and an earlier write is done; gives the error of
    /// that one.
    pub(crate) async fn due(&mut self) -> Result<(), CacheError> {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
        self.written().await
    }

    /// Starts appending what has changed, if that is enough.
    pub(crate) fn append(&mut self, holdings: &Holdings) -> bool {
        let Changes { endpoints, other: false } = &self.changes else { return false };
        let (Some(path), Some(journal)) = (self.path.clone(), self.journal.take()) else {
            return false;
        };
        let Some(record) = journal.record(endpoints, holdings) else { return false };
        self.due = None;
        self.changes = Changes::default();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            journal.append(&path, &record).map_err(|source| CacheError::Io { path, source })
        }));
        true
    }

    /// Starts writing `state`.
    pub(crate) fn write(&mut self, state: CachedState) {
        self.due = None;
        let Some(path) = self.path.clone() else { return };
        let node = self.node.clone();
        self.changes = Changes::default();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            Cache::store(&path, &node, &state)?;
            Journal::begin(&path, &state).map_err(|source| CacheError::Io { path, source })
        }));
    }

    /// Whether changes wait to be written.
    pub(crate) const fn is_due(&self) -> bool {
        self.due.is_some()
    }

    /// Waits for the write under way.
    pub(crate) async fn written(&mut self) -> Result<(), CacheError> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let result = writing.await;
        self.writing = None;
        match result {
            Ok(Ok(journal)) => self.journal = Some(journal),
            Ok(Err(error)) => {
                self.journal = None;
                return Err(error);
            }
            // The runtime is shutting down.
            Err(_) => {}
        }
        Ok(())
    }
}
