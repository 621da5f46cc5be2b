//! What the administration interface sees and commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use weft_admin::{AdminState, CertificateEntry, CertificateFacts, DrainRequest, Readiness};
use weft_config::SharedEngine;
use weft_model::{Snapshot, SnapshotWatch};
use weft_telemetry::{Metric, MetricName, Registry};

use crate::logging::Logging;
use crate::readiness::Health;
use crate::shutdown::Event;
use crate::sockets::Sockets;

/// The proxy, for its administration.
pub(crate) struct State {
    pub(crate) engine: SharedEngine,
    pub(crate) snapshot: SnapshotWatch,
    pub(crate) registry: Registry,
    pub(crate) health: Arc<Health>,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) logging: Logging,
    pub(crate) commands: mpsc::Sender<Event>,
    pub(crate) started: Instant,
    pub(crate) workers: usize,
}

impl State {
    /// Commands are few: one that finds the queue full repeats one that waits there.
    fn command(&self, event: Event) {
        let _ = self.commands.try_send(event);
    }

    fn set_server_gauges(&self) {
        let scope = self.registry.scope("server", None);
        let state = match self.readiness() {
            Readiness::Live => 0,
            Readiness::Draining => 1,
            Readiness::Initializing => 2,
        };
        scope.gauge("state").set(state);
        scope.gauge("live").set(u64::from(state == 0));
        scope.gauge("uptime").set(self.started.elapsed().as_secs());
        scope.gauge("concurrency").set(self.workers as u64);
        scope.gauge("memory_allocated").set(resident_bytes());
        let snapshot = self.snapshot.borrow();
        let manager = self.registry.scope("listener_manager", None);
        manager.gauge("total_listeners_active").set(snapshot.listeners.len() as u64);
        manager.gauge("workers_started").set(1);
        let clusters = self.registry.scope("cluster_manager", None);
        clusters.gauge("active_clusters").set(snapshot.clusters.size() as u64);
    }
}

impl AdminState for State {
    fn readiness(&self) -> Readiness {
        let configured = self.engine.lock().readiness().ready;
        let snapshot = self.snapshot.borrow();
        self.health.readiness(configured && self.sockets.serve(&snapshot, self.workers))
    }

    fn config_dump(&self) -> Value {
        let dump = self.engine.lock().dump();
        weft_config::forget_descriptors();
        dump
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    fn metrics(&self) -> Vec<(MetricName, Metric)> {
        self.set_server_gauges();
        self.registry.all()
    }

    fn certificates(&self) -> Vec<CertificateEntry> {
        let engine = self.engine.lock();
        let facts = |path: &str, details: &weft_spiffe::CertificateDetails| CertificateFacts {
            path: path.to_owned(),
            serial: details.serial.clone(),
            dns_sans: details.dns_names().map(str::to_owned).collect(),
            uri_sans: details.uris().map(str::to_owned).collect(),
            not_before: details.not_before,
            not_after: details.not_after,
        };
        let entry = |shown: &weft_config::ShownCertificates| CertificateEntry {
            ca: shown.roots.iter().map(|details| facts(&shown.name, details)).collect(),
            chain: shown.chain.iter().map(|details| facts(&shown.name, details)).collect(),
        };
        engine.certificates().iter().map(entry).collect()
    }

    fn server_info(&self) -> Value {
        let engine = self.engine.lock();
        let node = &engine.bootstrap().node;
        json!({
            "version": concat!("weft-sidecar/", env!("CARGO_PKG_VERSION")),
            "uptime_current_epoch": seconds(self.started.elapsed()),
            "uptime_all_epochs": seconds(self.started.elapsed()),
            "hot_restart_version": "disabled",
            "command_line_options": {
                "concurrency": self.workers,
                "config_path": engine.bootstrap().file,
            },
            "node": {"id": node.id, "cluster": node.cluster},
            "control_plane_connected": engine.is_connected(),
        })
    }

    fn drain(&self, request: DrainRequest) {
        self.command(Event::Drain(request));
    }

    fn quit(&self) {
        self.command(Event::End("/quitquitquit"));
    }

    fn set_healthy(&self, healthy: bool) {
        self.health.set_healthy(healthy);
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        self.logging.set(level)
    }
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}

/// Resident memory; zero where the kernel does not tell.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    pages.unwrap_or(0) * page.and_then(|page| u64::try_from(page).ok()).unwrap_or(4096)
}
