//! Records on their way to a collector: encoded where they arise, collected per thread, sent in
//! batches by whoever can reach clusters.
//!
//! What is encoded is a part of the message that is sent, so that records of a batch stand one
//! behind the other as they are; [`Envelope`] says what goes around them.

mod envelope;
pub(crate) mod wire;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use envelope::Envelope;

use crate::shards::{SHARDS, shard};
use crate::stats::{Counter, Registry};

/// A thread that holds more for one collector takes no record until it is sent, bytes.
const LIMIT: usize = 1 << 20;
/// Batches that one collector may have unanswered; more wait.
const MOST_UNDERWAY: u32 = 8;

/// Wakes whoever sends what the threads of a shard have collected.
static FULL: [Notify; SHARDS] = [const { Notify::const_new() }; SHARDS];

/// Where batches go.
#[derive(Debug)]
pub struct ExportTarget {
    /// The cluster.
    pub cluster: String,
    /// Method, URI and headers of the request that carries a batch.
    pub head: Request<()>,
    /// What goes around the records.
    pub envelope: Envelope,
    /// How long sending a batch may take.
    pub timeout: Duration,
    /// A batch of so many bytes is sent at once.
    pub batch: usize,
    /// How long a record waits at most.
    pub flush: Duration,
}

/// Collects records for one collector.
#[derive(Debug)]
pub struct Exporter {
    target: ExportTarget,
    shards: [Mutex<Pending>; SHARDS],
    underway: AtomicU32,
    stats: ExportStats,
}

/// `<prefix>.*`
#[derive(Clone, Debug)]
pub struct ExportStats {
    /// Records that the collector has taken.
    pub sent: Counter,
    /// Records for which there was no room.
    pub dropped: Counter,
    /// Records that could not be delivered.
    pub failed: Counter,
}

impl ExportStats {
    /// Registers the statistics below a prefix, e.g. `tracing.opentelemetry`; Envoy's names for
    /// sent and dropped follow it.
    #[must_use]
    pub fn new(registry: &Registry, prefix: &str, [sent, dropped]: [&str; 2]) -> Self {
        let scope = registry.scope(prefix, None);
        Self {
            sent: scope.counter(sent),
            dropped: scope.counter(dropped),
            failed: scope.counter("reports_failed"),
        }
    }
}

#[derive(Debug, Default)]
struct Pending {
    records: Vec<u8>,
    count: u64,
    since: Option<Instant>,
}

/// Records to send.
#[derive(Debug)]
pub struct Batch {
    /// The cluster.
    pub cluster: String,
    /// The request.
    pub request: Request<Bytes>,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether the answer carries a gRPC status.
    pub grpc: bool,
    count: u64,
    exporter: Arc<Exporter>,
}

impl Batch {
    /// Says what became of it.
    pub fn done(self, delivered: bool) {
        let stats = &self.exporter.stats;
        if delivered { &stats.sent } else { &stats.failed }.add(self.count);
        // What is left is counted when it is dropped.
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.exporter.underway.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Exporter {
    /// A collector's exporter; [`pending_batches`] knows it from now on.
    #[must_use]
    pub fn new(target: ExportTarget, stats: ExportStats) -> Arc<Self> {
        let (shards, underway) = (Default::default(), AtomicU32::new(0));
        let exporter = Arc::new(Self { target, shards, underway, stats });
        let mut all = all().lock();
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&exporter));
        exporter
    }

    /// Takes a record, unless there is no room: `write` appends it.
    pub fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let shard = shard();
        let mut pending = self.shards[shard].lock();
        if pending.records.len() >= LIMIT {
            self.stats.dropped.inc();
            return;
        }
        if !pending.records.is_empty() {
            self.target.envelope.separate(&mut pending.records);
        }
        write(&mut pending.records);
        pending.count += 1;
        pending.since.get_or_insert_with(crate::clock::now);
        if pending.records.len() >= self.target.batch {
            FULL[shard].notify_one();
        }
    }

    pub(crate) fn take(self: &Arc<Self>, shard: usize, now: Option<Instant>) -> Option<Batch> {
        let mut pending = self.shards[shard].lock();
        let since = pending.since?;
        let is_due = now.is_none_or(|now| {
            pending.records.len() >= self.target.batch
                || now.saturating_duration_since(since) >= self.target.flush
        });
        if !is_due || self.underway.load(Ordering::Relaxed) >= MOST_UNDERWAY {
            return None;
        }
        self.underway.fetch_add(1, Ordering::Relaxed);
        let Pending { records, count, .. } = std::mem::take(&mut *pending);
        drop(pending);
        let target = &self.target;
        let mut request = Request::new(target.envelope.around(&records));
        request.method_mut().clone_from(target.head.method());
        request.uri_mut().clone_from(target.head.uri());
        request.headers_mut().clone_from(target.head.headers());
        Some(Batch {
            cluster: target.cluster.clone(),
            request,
            timeout: target.timeout,
            grpc: target.envelope.is_grpc(),
            count,
            exporter: Arc::clone(self),
        })
    }
}

/// Records that are left when their collector is forgotten were never sent.
impl Drop for Exporter {
    fn drop(&mut self) {
        let left: u64 = self.shards.iter_mut().map(|shard| shard.get_mut().count).sum();
        self.stats.dropped.add(left);
    }
}

fn all() -> &'static Mutex<Vec<Weak<Exporter>>> {
    static ALL: OnceLock<Mutex<Vec<Weak<Exporter>>>> = OnceLock::new();
    ALL.get_or_init(Mutex::default)
}

/// The batches of this thread that are due at `now`; `None`: all that there are.
#[must_use]
pub fn pending_batches(now: Option<Instant>) -> Vec<Batch> {
    let exporters: Vec<_> = all().lock().iter().filter_map(Weak::upgrade).collect();
    exporters.iter().filter_map(|exporter| exporter.take(shard(), now)).collect()
}

/// Waits until a batch of this thread is full.
pub async fn batch_is_full() {
    FULL[shard()].notified().await;
}

#[cfg(test)]
mod tests;
