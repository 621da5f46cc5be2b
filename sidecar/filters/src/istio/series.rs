//! The counters of label sets, and which of them a thread has seen.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use weft_telemetry::{Counter, Histogram, Labels, LogRecord, Registry, ResponseFlags};

use super::labels::OF_PEERS;
use super::overrides::Overrides;
use super::{Carriage, Facts, GrpcStatus, Stats};

/// Label sets that a thread remembers for one filter; more than these begin anew.
const MOST_KNOWN: usize = 4096;

/// The label sets that a thread has seen.
#[derive(Debug)]
pub(super) struct Known<S> {
    entries: HashTable<Entry<S>>,
    hasher: RandomState,
    /// When series that are out of use are looked for next, seconds.
    next_sweep: u64,
}

impl<S> Default for Known<S> {
    fn default() -> Self {
        Self { entries: HashTable::new(), hasher: RandomState::default(), next_sweep: 0 }
    }
}

#[derive(Debug)]
struct Entry<S> {
    key: Key,
    series: S,
    /// When it was counted last, seconds.
    used: u64,
}

/// [`Facts`] to keep.
#[derive(Debug)]
struct Key {
    hash: u64,
    peer: Box<[u8]>,
    texts: [Box<str>; 5],
    extra: Vec<String>,
    endpoint: Option<std::net::SocketAddr>,
    flags: ResponseFlags,
    status: u16,
    grpc: Option<GrpcStatus>,
}

impl Facts<'_> {
    fn texts(&self) -> [&str; 5] {
        let [peer, own] = self.principals;
        [self.host, self.route, self.cluster, peer, own]
    }

    fn hash(&self, extra: &[String], hasher: &RandomState) -> u64 {
        let mut state = hasher.build_hasher();
        state.write(self.peer);
        for text in self.texts() {
            state.write(text.as_bytes());
        }
        extra.hash(&mut state);
        self.endpoint.hash(&mut state);
        (self.status, self.grpc).hash(&mut state);
        state.finish()
    }

    fn key(&self, hash: u64, extra: Vec<String>) -> Key {
        Key {
            hash,
            peer: self.peer.into(),
            texts: self.texts().map(Box::from),
            extra,
            endpoint: self.endpoint,
            flags: self.flags,
            status: self.status,
            grpc: self.grpc,
        }
    }
}

impl Key {
    fn is(&self, facts: &Facts<'_>, extra: &[String]) -> bool {
        let texts = facts.texts();
        self.status == facts.status
            && self.flags == facts.flags
            && self.grpc == facts.grpc
            && self.endpoint == facts.endpoint
            && *self.peer == *facts.peer
            && self.texts.iter().zip(texts).all(|(known, text)| **known == *text)
            && self.extra == extra
    }
}

impl<S> Known<S> {
    /// The counters for a label set; made where this thread has not seen it.
    pub(super) fn find(
        &mut self,
        stats: &Stats,
        facts: &Facts<'_>,
        extra: Vec<String>,
        record: &LogRecord<'_>,
        new: fn(&Registry, &Overrides, &Labels, &[String]) -> S,
    ) -> &S
    where
        S: Kind,
    {
        let now = stats.now();
        if let Some(expiry) = stats.expiry
            && now >= self.next_sweep
        {
            self.next_sweep = now + expiry.as_secs().max(1);
            self.sweep(stats, now);
        }
        let hash = facts.hash(&extra, &self.hasher);
        let found = self.entries.find_entry(hash, |entry| entry.key.is(facts, &extra));
        let entry = match found {
            Ok(found) => found.into_mut(),
            Err(absent) => {
                let table = absent.into_table();
                if table.len() >= MOST_KNOWN {
                    table.clear();
                }
                let labels = stats.labels(facts, record, S::HTTP);
                let series = new(&stats.registry, &stats.overrides, &labels, &extra);
                let entry = Entry { key: facts.key(hash, extra), series, used: now };
                table.insert_unique(hash, entry, |entry| entry.key.hash).into_mut()
            }
        };
        entry.used = now;
        &entry.series
    }

    pub(super) fn sweep(&mut self, stats: &Stats, now: u64) {
        let expiry = stats.expiry.map_or(u64::MAX, |expiry| expiry.as_secs());
        let before = self.entries.len();
        self.entries.retain(|entry| now.saturating_sub(entry.used) < expiry);
        if self.entries.len() < before {
            stats.registry.forget_unheld_series();
        }
    }
}

/// Whether series are of requests or of connections.
pub(super) trait Kind {
    const HTTP: bool;
}

impl Kind for HttpSeries {
    const HTTP: bool = true;
}

impl Kind for TcpSeries {
    const HTTP: bool = false;
}

/// What is counted of requests; what is dropped, or beyond the limit of series, is not there.
#[derive(Debug)]
pub(super) struct HttpSeries {
    requests: Option<Counter>,
    duration: Option<Histogram>,
    request_bytes: Option<Histogram>,
    response_bytes: Option<Histogram>,
    /// To the server and from it; only of gRPC.
    messages: Option<[Option<Counter>; 2]>,
}

impl HttpSeries {
    pub(super) fn new(
        registry: &Registry,
        overrides: &Overrides,
        labels: &Labels,
        extra: &[String],
    ) -> Self {
        let counter = |name| {
            let labels = overrides.apply(name, labels, extra)?;
            registry.labelled_counter(&format!("istio_{name}"), &labels)
        };
        let histogram = |name| {
            let labels = overrides.apply(name, labels, extra)?;
            registry.labelled_histogram(&format!("istio_{name}"), &labels)
        };
        let grpc =
            labels.iter().any(|(name, value)| &**name == "request_protocol" && &**value == "grpc");
        // Messages are counted under what is known before the response.
        let early = |name| {
            let kept = labels[..OF_PEERS.min(labels.len())].to_vec();
            let labels = overrides.apply(name, &kept, extra)?;
            registry.labelled_counter(&format!("istio_{name}"), &labels)
        };
        Self {
            requests: counter("requests_total"),
            duration: histogram("request_duration_milliseconds"),
            request_bytes: histogram("request_bytes"),
            response_bytes: histogram("response_bytes"),
            messages: grpc
                .then(|| ["request_messages_total", "response_messages_total"].map(early)),
        }
    }

    pub(super) fn count(&self, millis: u64, bytes: [u64; 2], messages: Option<(u64, u64)>) {
        if let Some(requests) = &self.requests {
            requests.inc();
        }
        let values = [millis, bytes[0], bytes[1]];
        for (histogram, value) in
            [&self.duration, &self.request_bytes, &self.response_bytes].into_iter().zip(values)
        {
            if let Some(histogram) = histogram {
                histogram.record(value);
            }
        }
        if let (Some([to, from]), Some(counts)) = (&self.messages, messages) {
            for (counter, count) in [(to, counts.0), (from, counts.1)] {
                if let Some(counter) = counter {
                    counter.add(count);
                }
            }
        }
    }
}

/// What is counted of connections.
#[derive(Debug)]
pub(super) struct TcpSeries {
    opened: Option<Counter>,
    closed: Option<Counter>,
    sent: Option<Counter>,
    received: Option<Counter>,
}

impl TcpSeries {
    pub(super) fn new(
        registry: &Registry,
        overrides: &Overrides,
        labels: &Labels,
        extra: &[String],
    ) -> Self {
        let counter = |name| {
            let labels = overrides.apply(name, labels, extra)?;
            registry.labelled_counter(&format!("istio_{name}"), &labels)
        };
        Self {
            opened: counter("tcp_connections_opened_total"),
            closed: counter("tcp_connections_closed_total"),
            sent: counter("tcp_sent_bytes_total"),
            received: counter("tcp_received_bytes_total"),
        }
    }

    pub(super) fn count(&self, carried: &Carriage) {
        let counts = [
            (&self.opened, u64::from(carried.opened)),
            (&self.closed, u64::from(carried.closed)),
            (&self.sent, carried.sent),
            (&self.received, carried.received),
        ];
        for (counter, count) in counts {
            if let Some(counter) = counter {
                counter.add(count);
            }
        }
    }
}
