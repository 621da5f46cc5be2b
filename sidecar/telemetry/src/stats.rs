//! Counters, gauges and histograms.
//!
//! Each thread writes to an arena of its own, so that workers share no cache
//! line; a value is the sum over the arenas. A statistic is an index into all
//! of them, freed when the last handle to it is dropped.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use crate::codes::ResponseCodes;
use crate::series::Labels;

/// Cells in one chunk of an arena.
const CHUNK: usize = 1024;
/// Chunks in an arena: room for four million statistics.
const CHUNKS: usize = 4096;

/// Upper bounds of histogram buckets, in the unit recorded (Envoy's defaults, in milliseconds).
pub const BUCKETS: [u64; 19] = [
    1,
    5,
    10,
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    30_000,
    60_000,
    300_000,
    600_000,
    1_800_000,
    3_600_000,
    u64::MAX,
];

/// The cells of one thread. Their sizes are part of the type, so that finding one is a few
/// instructions.
struct Arena([OnceLock<Box<[AtomicU64; CHUNK]>>; CHUNKS]);

impl Arena {
    const fn new() -> Self {
        Self([const { OnceLock::new() }; CHUNKS])
    }

    #[inline]
    fn cell(&self, index: u32) -> &AtomicU64 {
        let index = index as usize;
        let chunk = self.0[index / CHUNK % CHUNKS]
            .get_or_init(|| Box::new([const { AtomicU64::new(0) }; CHUNK]));
        &chunk[index % CHUNK]
    }

    fn peek(&self, index: u32) -> u64 {
        let index = index as usize;
        let chunk = self.0[index / CHUNK % CHUNKS].get();
        chunk.map_or(0, |chunk| chunk[index % CHUNK].load(Ordering::Relaxed))
    }
}

/// All arenas, and the indices that are free for use again.
struct Arenas {
    all: RwLock<Vec<&'static Arena>>,
    free: Mutex<FreeSlots>,
}

#[derive(Default)]
struct FreeSlots {
    next: u32,
    returned: BTreeMap<u32, Vec<u32>>,
}

static ARENAS: Arenas = Arenas {
    all: RwLock::new(Vec::new()),
    free: Mutex::new(FreeSlots { next: 0, returned: BTreeMap::new() }),
};

thread_local! {
    /// Arenas outlive their threads: what was counted stays counted.
    static ARENA: Cell<Option<&'static Arena>> = const { Cell::new(None) };
}

/// The arena of this thread.
#[inline]
fn arena() -> &'static Arena {
    ARENA.get().unwrap_or_else(new_arena)
}

#[cold]
fn new_arena() -> &'static Arena {
    let arena: &'static Arena = Box::leak(Box::new(Arena::new()));
    ARENAS.all.write().push(arena);
    ARENA.set(Some(arena));
    arena
}

/// A run of cells, returned when dropped.
#[derive(Debug)]
struct Slots {
    first: u32,
    count: u32,
}

impl Slots {
    fn take(count: u32) -> Self {
        let mut free = ARENAS.free.lock();
        if let Some(first) = free.returned.get_mut(&count).and_then(Vec::pop) {
            return Self { first, count };
        }
        let first = free.next;
        free.next += count;
        assert!((free.next as usize) < CHUNK * CHUNKS, "more than four million statistics");
        Self { first, count }
    }

    #[inline]
    fn add(&self, offset: u32, n: u64) {
        // The arena has one writer: no read-modify-write instruction is needed.
        let cell = arena().cell(self.first + offset);
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    fn sum(&self, offset: u32) -> u64 {
        let arenas = ARENAS.all.read();
        arenas.iter().fold(0, |sum, arena| sum.wrapping_add(arena.peek(self.first + offset)))
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for arena in ARENAS.all.read().iter() {
            for index in self.first..self.first + self.count {
                if arena.peek(index) != 0 {
                    arena.cell(index).store(0, Ordering::Relaxed);
                }
            }
        }
        ARENAS.free.lock().returned.entry(self.count).or_default().push(self.first);
    }
}

/// A number that only grows.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Slots>);

impl Counter {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Slots::take(1)))
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.add(0, n);
    }

    /// The sum over all threads.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.sum(0)
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<Slots>);

impl Gauge {
    fn new() -> Self {
        Self(Arc::new(Slots::take(1)))
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.0.add(0, 1);
    }

    /// Takes one away; may be called from another thread than the matching [`Self::inc`].
    #[inline]
    pub fn dec(&self) {
        self.0.add(0, u64::MAX);
    }

    /// Sets the value; for gauges that one thread owns.
    pub fn set(&self, value: u64) {
        self.0.add(0, value.wrapping_sub(self.value()));
    }

    /// The sum over all threads.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.sum(0)
    }
}

/// A distribution over the fixed [`BUCKETS`].
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Slots>);

impl Histogram {
    pub(crate) fn new() -> Self {
        // One cell for each bucket, one for the sum.
        Self(Arc::new(Slots::take(BUCKETS.len() as u32 + 1)))
    }

    /// Records one value (Envoy's request times: milliseconds).
    pub fn record(&self, value: u64) {
        // Most times are short.
        let bucket = match value {
            0 | 1 => 0,
            _ => BUCKETS.partition_point(|bound| *bound < value),
        };
        self.0.add(bucket as u32, 1);
        self.0.add(BUCKETS.len() as u32, value);
    }

    /// How many values fell into each bucket (not cumulative), in the order of [`BUCKETS`].
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        (0..BUCKETS.len() as u32).map(|bucket| self.0.sum(bucket)).collect()
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.sum(BUCKETS.len() as u32)
    }
}

/// One registered statistic.
#[derive(Clone, Debug)]
pub enum Metric {
    /// A counter.
    Counter(Counter),
    /// A gauge.
    Gauge(Gauge),
    /// A histogram.
    Histogram(Histogram),
}

impl Metric {
    /// Whether anybody besides the registry holds it.
    pub(crate) fn is_held(&self) -> bool {
        let (Self::Counter(Counter(slots))
        | Self::Gauge(Gauge(slots))
        | Self::Histogram(Histogram(slots))) = self;
        Arc::strong_count(slots) > 1
    }
}

/// The parts of a statistic's name: Envoy's dotted name is all of them joined,
/// Prometheus' name leaves the tag's value out and gives it as a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricName {
    /// What comes before the tag's value, e.g. `cluster`.
    pub prefix: String,
    /// The label and its value, e.g. (`envoy_cluster_name`, `greeter`).
    pub tag: Option<(&'static str, String)>,
    /// What comes after it, e.g. `upstream_rq_total`.
    pub suffix: String,
    /// The labels of a [series](crate::Labels), which has no Envoy name; else empty.
    pub labels: Labels,
}

impl MetricName {
    /// Envoy's name, e.g. `cluster.greeter.upstream_rq_total`.
    #[must_use]
    pub fn dotted(&self) -> String {
        let parts = [
            self.prefix.as_str(),
            self.tag.as_ref().map_or("", |tag| tag.1.as_str()),
            &self.suffix,
        ];
        let labels = self.labels.iter().flat_map(|(label, value)| [&**label, &**value]);
        let parts = parts.into_iter().chain(labels);
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }
}

/// Every statistic of the process by name.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Known>);

/// What is registered.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) all: RwLock<BTreeMap<MetricName, Metric>>,
    /// How many of them have labels of their own.
    pub(crate) series: AtomicUsize,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn known(&self) -> &Known {
        &self.0
    }

    /// Names under `prefix`, with `tag` (label, value) between prefix and name.
    #[must_use]
    pub fn scope(&self, prefix: &str, tag: Option<(&'static str, &str)>) -> Scope {
        let tag = tag.map(|(label, value)| (label, value.to_owned()));
        Scope { registry: self.clone(), prefix: prefix.to_owned(), tag }
    }

    /// All statistics at the moment, sorted by name.
    #[must_use]
    pub fn all(&self) -> Vec<(MetricName, Metric)> {
        self.0.all.read().iter().map(|(name, metric)| (name.clone(), metric.clone())).collect()
    }

    /// Forgets every statistic below `prefix` with this tag value, e.g. those of a removed cluster.
    pub fn forget(&self, prefix: &str, tag_value: &str) {
        self.0.all.write().retain(|name, _| {
            name.prefix != prefix || name.tag.as_ref().is_none_or(|(_, value)| value != tag_value)
        });
    }
}

/// A place in a [`Registry`].
#[derive(Clone, Debug)]
pub struct Scope {
    registry: Registry,
    prefix: String,
    tag: Option<(&'static str, String)>,
}

impl Scope {
    fn register(&self, suffix: &str, new: impl FnOnce() -> Metric) -> Metric {
        let name = MetricName {
            prefix: self.prefix.clone(),
            tag: self.tag.clone(),
            suffix: suffix.to_owned(),
            labels: Labels::new(),
        };
        self.registry.0.all.write().entry(name).or_insert_with(new).clone()
    }

    /// The counter of this name; the same one each time.
    ///
    /// A name that was registered as another kind gives a counter that is not shown.
    #[must_use]
    pub fn counter(&self, name: &str) -> Counter {
        match self.register(name, || Metric::Counter(Counter::new())) {
            Metric::Counter(counter) => counter,
            Metric::Gauge(_) | Metric::Histogram(_) => Counter::new(),
        }
    }

    /// Counters of these names, followed by a response code.
    pub(crate) fn codes(&self, prefix: &'static str) -> ResponseCodes {
        ResponseCodes::new(self, prefix)
    }

    /// The gauge of this name, as [`Self::counter`].
    #[must_use]
    pub fn gauge(&self, name: &str) -> Gauge {
        match self.register(name, || Metric::Gauge(Gauge::new())) {
            Metric::Gauge(gauge) => gauge,
            Metric::Counter(_) | Metric::Histogram(_) => Gauge::new(),
        }
    }

    /// The histogram of this name, as [`Self::counter`].
    #[must_use]
    pub fn histogram(&self, name: &str) -> Histogram {
        match self.register(name, || Metric::Histogram(Histogram::new())) {
            Metric::Histogram(histogram) => histogram,
            Metric::Counter(_) | Metric::Gauge(_) => Histogram::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_sum_over_threads() {
        let registry = Registry::new();
        let scope = registry.scope("cluster", Some(("envoy_cluster_name", "a")));
        let counter = scope.counter("upstream_rq_total");
        let gauge = scope.gauge("upstream_rq_active");
        counter.inc();
        gauge.inc();
        let (c, g) = (counter.clone(), gauge.clone());
        std::thread::spawn(move || {
            c.add(2);
            g.dec();
        })
        .join()
        .expect("the thread ends");
        assert_eq!(counter.value(), 3);
        assert_eq!(gauge.value(), 0);
        assert_eq!(registry.all()[0].0.dotted(), "cluster.a.upstream_rq_active");
    }

    #[test]
    fn a_freed_cell_starts_again_at_zero() {
        let counter = Counter::new();
        counter.add(7);
        let first = counter.0.first;
        drop(counter);
        let again: Vec<_> = (0..64).map(|_| Counter::new()).collect();
        let reused = again.iter().find(|counter| counter.0.first == first);
        assert!(reused.is_none_or(|counter| counter.value() == 0));
    }

    #[test]
    fn histograms_count_in_buckets() {
        let histogram = Histogram::new();
        histogram.record(1);
        histogram.record(7);
        histogram.record(10);
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[2], histogram.sum()), (1, 2, 18));
    }
}
