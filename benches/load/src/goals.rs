//! The table of goals, and what decides whether one is met.
//!
//! A row is added in `GOALS` and nowhere else; its workload is found by name.

use std::collections::BTreeMap;

use crate::metric::{Metric, Sample};
use crate::peers::ProxyKind::{self, Envoy, Haproxy, Nginx};

/// One row of the table.
pub(crate) struct Goal {
    /// What is done, in the words of the table.
    pub(crate) work: &'static str,
    /// The workload that measures it.
    pub(crate) workload: &'static str,
    /// The number that counts.
    pub(crate) metric: Metric,
    pub(crate) against: Against,
    pub(crate) limit: Limit,
}

/// What Weft's number is divided by.
#[derive(Clone, Copy)]
pub(crate) enum Against {
    /// The best of these peers in the same run.
    Best(&'static [ProxyKind]),
    /// Nothing: the number itself has a limit.
    Itself,
}

/// What the ratio, or the number, may be.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

use Against::{Best, Itself};
use Limit::{AtLeast, AtMost};

/// A goal of Weft against peers.
const fn peers(
    work: &'static str,
    workload: &'static str,
    metric: Metric,
    peers: &'static [ProxyKind],
    limit: Limit,
) -> Goal {
    Goal { work, workload, metric, against: Best(peers), limit }
}

/// A goal for a number of Weft's own.
const fn own(work: &'static str, workload: &'static str, metric: Metric, limit: Limit) -> Goal {
    Goal { work, workload, metric, against: Itself, limit }
}

/// Every goal, in the order of the table.
pub(crate) const GOALS: &[Goal] = &[
    peers("HTTP/1.1, CPU per request", "http1", Metric::Cpu, &[Haproxy, Nginx], AtMost(0.95)),
    peers("HTTP/1.1, CPU per request", "http1", Metric::Cpu, &[Envoy], AtMost(0.33)),
    peers("HTTP/1.1, user-space CPU per request", "http1", Metric::User, &[Haproxy], AtMost(1.0)),
    peers(
        "HTTP/1.1, p99 at half of saturation",
        "http1-open",
        Metric::P99,
        &[Haproxy],
        AtMost(1.1),
    ),
    peers(
        "mTLS pair, CPU per request on the client's side",
        "mtls",
        Metric::ClientSideCpu,
        &[Envoy],
        AtMost(0.40),
    ),
    peers(
        "mTLS pair, CPU per request on the server's side",
        "mtls",
        Metric::ServerSideCpu,
        &[Envoy],
        AtMost(0.40),
    ),
    peers("HTTP/2 to HTTP/2, CPU per request", "http2", Metric::Cpu, &[Envoy], AtMost(0.45)),
    peers("gRPC unary, CPU per call", "grpc", Metric::Cpu, &[Envoy], AtMost(0.45)),
    peers(
        "gRPC bidirectional streams, messages per CPU-second",
        "grpc-stream",
        Metric::MessagesPerCpu,
        &[Envoy],
        AtLeast(2.0),
    ),
    peers(
        "TCP over mTLS, both sides, CPU-seconds per GiB",
        "tcp-mtls",
        Metric::GibibyteCpu,
        &[Envoy],
        AtMost(0.6),
    ),
    peers(
        "plain TCP relay, CPU-seconds per GiB",
        "tcp",
        Metric::GibibyteCpu,
        &[Haproxy],
        AtMost(1.0),
    ),
    peers(
        "new mTLS connections, full handshakes, per CPU-second",
        "handshakes",
        Metric::ConnectionsPerCpu,
        &[Envoy],
        AtLeast(1.5),
    ),
    peers(
        "new mTLS connections, resumed, per CPU-second",
        "resumed",
        Metric::ConnectionsPerCpu,
        &[Envoy],
        AtLeast(3.0),
    ),
    peers(
        "bodies of 64 MiB both ways, throughput",
        "bodies",
        Metric::Throughput,
        &[Haproxy],
        AtLeast(1.0),
    ),
    own(
        "the last of 10,000 routes in one virtual host, CPU against the first",
        "routes",
        Metric::LastToFirst,
        AtMost(1.05),
    ),
    own("idle memory, MiB", "idle", Metric::Resident, AtMost(10.0)),
    own(
        "memory per idle keep-alive connection, KiB",
        "keep-alive",
        Metric::PerConnection,
        AtMost(4.0),
    ),
    own(
        "10,000 connections at once over 2 workers, % on the busiest",
        "balance",
        Metric::Busiest,
        AtMost(60.0),
    ),
    own(
        "long-lived HTTP/2 connections over 2 workers, % on the busiest",
        "balance-http2",
        Metric::Busiest,
        AtMost(60.0),
    ),
    peers(
        "10,000 clusters with 100,000 endpoints over delta xDS, memory",
        "scale",
        Metric::Resident,
        &[Envoy],
        AtMost(0.15),
    ),
    peers(
        "10,000 clusters with 100,000 endpoints over delta xDS, time to serve",
        "scale",
        Metric::Served,
        &[Envoy],
        AtMost(0.2),
    ),
    own("one endpoint changed among those, CPU ms", "churn", Metric::ChangeCpu, AtMost(1.0)),
    own(
        "100 endpoints a second changed, p99 against without",
        "churn",
        Metric::Churned,
        AtMost(1.1),
    ),
    own(
        "a mesh of 10,000 services of which 10 are called, sidecar's memory, MiB",
        "mesh",
        Metric::Resident,
        AtMost(16.0),
    ),
    own("what the first call to one of those adds, ms", "mesh", Metric::FirstCall, AtMost(5.0)),
    own(
        "a write among 10,000 routes until the last of 10 proxies of 1,000 is told, p50 ms",
        "propagation",
        Metric::FewTold,
        AtMost(5.0),
    ),
    own("the same, p99 ms", "propagation", Metric::FewToldP99, AtMost(20.0)),
    own(
        "until a request through a sidecar sees it, p50 ms",
        "propagation",
        Metric::Seen,
        AtMost(5.0),
    ),
    own("the same, p99 ms", "propagation", Metric::SeenP99, AtMost(20.0)),
    own(
        "until the last of 1,000 proxies is told, all of which it concerns, p50 ms",
        "propagation",
        Metric::AllTold,
        AtMost(5.0),
    ),
    own("the same, p99 ms", "propagation", Metric::AllToldP99, AtMost(20.0)),
    own("`weft-sidecar`, stripped, MiB", "binary", Metric::Size, AtMost(25.0)),
];

/// What was measured: the rounds of each workload and proxy, or why there are none.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) samples: BTreeMap<(&'static str, ProxyKind), Vec<Sample>>,
    pub(crate) failures: BTreeMap<(&'static str, ProxyKind), String>,
}

impl Results {
    /// The median over the rounds; absent if one of them failed.
    pub(crate) fn median(&self, workload: &'static str, proxy: ProxyKind) -> Option<Sample> {
        let key = (workload, proxy);
        let rounds = self.samples.get(&key).filter(|_| !self.failures.contains_key(&key))?;
        Some(Sample::medians(rounds))
    }
}

/// A row filled in.
#[derive(Debug, PartialEq)]
pub(crate) struct Judged {
    /// Weft's number.
    pub(crate) weft: Option<f64>,
    /// Each peer's number.
    pub(crate) peers: Vec<(ProxyKind, Option<f64>)>,
    /// Weft's divided by the best peer's; absent where the number itself has the limit.
    pub(crate) ratio: Option<f64>,
    pub(crate) verdict: Verdict,
}

/// Whether a goal is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Short,
    /// It can't be said: these were not measured.
    Open(Vec<ProxyKind>),
}

impl Goal {
    /// Compares what was measured with the limit.
    pub(crate) fn judge(&self, results: &Results) -> Judged {
        let value = |proxy| {
            let median = results.median(self.workload, proxy)?;
            median.value(self.metric).filter(|value| value.is_finite())
        };
        let weft = value(ProxyKind::Weft);
        let names = match self.against {
            Best(names) => names,
            Itself => &[],
        };
        let peers: Vec<_> = names.iter().map(|peer| (*peer, value(*peer))).collect();
        let best = self.best(peers.iter().filter_map(|(_, value)| *value));
        let ratio = weft.zip(best).map(|(weft, best)| weft / best);
        let mut missing: Vec<_> =
            peers.iter().filter(|(_, value)| value.is_none()).map(|(peer, _)| *peer).collect();
        if weft.is_none() {
            missing.insert(0, ProxyKind::Weft);
        }
        let counted = if names.is_empty() { weft } else { ratio };
        let verdict = match counted.filter(|_| missing.is_empty()) {
            Some(counted) if self.limit.holds(counted) => Verdict::Pass,
            Some(_) => Verdict::Short,
            None => Verdict::Open(missing),
        };
        Judged { weft, peers, ratio, verdict }
    }

    fn best(&self, values: impl Iterator<Item = f64>) -> Option<f64> {
        values.reduce(match self.limit {
            AtMost(_) => f64::min,
            AtLeast(_) => f64::max,
        })
    }
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            AtMost(limit) => value <= limit,
            AtLeast(limit) => value >= limit,
        }
    }

    /// As the table shows it.
    pub(crate) fn show(self) -> String {
        match self {
            AtMost(limit) => format!("≤ {limit}"),
            AtLeast(limit) => format!("≥ {limit}"),
        }
    }
}

#[cfg(test)]
mod tests;
