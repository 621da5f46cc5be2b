//! Configuration from YAML, as the sidecar reads it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use weft_config::{BootstrapConfig, Engine};
use weft_model::{Snapshot, SnapshotPublisher, SnapshotWatch};
use weft_telemetry::Registry;

/// An engine and what it publishes.
pub(super) struct Configured {
    pub(super) engine: Engine,
    pub(super) watch: SnapshotWatch,
    pub(super) now: Instant,
}

impl Configured {
    pub(super) fn from_yaml(yaml: &str) -> Result<Self> {
        let bootstrap = BootstrapConfig::parse(Path::new("bootstrap.yaml"), yaml)?;
        let publisher = SnapshotPublisher::new();
        let watch = publisher.watch();
        let now = Instant::now();
        let engine = Engine::new(bootstrap, Registry::new(), publisher, now)?;
        Ok(Self { engine, watch, now })
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.watch.borrow())
    }
}

/// The runtime that a worker has.
pub(super) fn worker_runtime() -> Result<tokio::runtime::LocalRuntime> {
    let builder = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    Ok(builder?)
}
