//! Writing the cache behind the driver's back.

use std::{path::PathBuf, time::Duration};

use tokio::{task::JoinHandle, time::Instant};
use weft_xds_proto::pb::envoy::config::core::v3::Node;

use crate::{Cache, CacheError, CachedState, ClientConfig};

/// Collects changes for a while, then has them written.
#[derive(Debug)]
pub(crate) struct Persist {
    path: Option<PathBuf>,
    node: Node,
    delay: Duration,
    due: Option<Instant>,
    writing: Option<JoinHandle<Result<(), CacheError>>>,
}

impl Persist {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self {
            path: config.cache.clone(),
            node: config.node.clone(),
            delay: config.cache_delay,
            due: None,
            writing: None,
        }
    }

    /// Reads the file.
    pub(crate) async fn load(&self) -> Result<Option<CachedState>, CacheError> {
        let Some(path) = self.path.clone() else { return Ok(None) };
        let node = self.node.clone();
        match tokio::task::spawn_blocking(move || Cache::load(&path, &node)).await {
            Ok(loaded) => loaded,
            // The runtime is shutting down.
            Err(_) => Ok(None),
        }
    }

    /// Something to be kept has changed. The first change of a series sets the time.
    pub(crate) fn changed(&mut self) {
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

    /// Starts writing `state`.
    pub(crate) fn write(&mut self, state: CachedState) {
        self.due = None;
        let Some(path) = self.path.clone() else { return };
        let node = self.node.clone();
        self.writing =
            Some(tokio::task::spawn_blocking(move || Cache::store(&path, &node, &state)));
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
        result.unwrap_or(Ok(()))
    }
}
