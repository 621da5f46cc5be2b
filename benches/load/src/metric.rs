//! What is measured, and the numbers of one measurement.

use std::collections::BTreeMap;

/// A number that a measurement gives; the order is the order of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Requests a second.
    Requests,
    /// Messages of streams a second.
    Messages,
    /// New connections a second.
    Connections,
    /// Bytes both ways, MiB a second.
    Throughput,
    /// Median latency, microseconds.
    P50,
    /// The latency that one request of a hundred exceeds, microseconds.
    P99,
    /// CPU microseconds a request, message or connection.
    Cpu,
    /// The part of `Cpu` in user space.
    User,
    /// The part of `Cpu` that the client's side of a pair has.
    ClientSideCpu,
    /// The part of `Cpu` that the server's side of a pair has.
    ServerSideCpu,
    /// Messages for a second of CPU.
    MessagesPerCpu,
    /// New connections for a second of CPU.
    ConnectionsPerCpu,
    /// CPU seconds for a GiB.
    GibibyteCpu,
    /// The part of `GibibyteCpu` in user space.
    GibibyteUser,
    /// Resident memory before the first call, MiB.
    Before,
    /// Resident memory, MiB.
    Resident,
    /// Memory of a connection that waits, KiB.
    PerConnection,
    /// CPU of the last route divided by CPU of the first.
    LastToFirst,
    /// Seconds from the stream to the control plane until everything is served.
    Served,
    /// CPU milliseconds for one changed endpoint.
    ChangeCpu,
    /// p99 while endpoints change divided by p99 without.
    Churned,
    /// Connections of the worker that has most of them, per cent.
    Busiest,
    /// What the first call to a service takes longer than later ones, milliseconds.
    FirstCall,
    /// From a write's acknowledgement until the last of the few proxies that it concerns was told,
    /// median, milliseconds.
    FewTold,
    /// The same, of a hundred writes the worst but one.
    FewToldP99,
    /// From a write's acknowledgement until a request sees it, median, milliseconds.
    Seen,
    /// The same, of a hundred writes the worst but one.
    SeenP99,
    /// From a write's acknowledgement until the last of all proxies was told, median, milliseconds.
    AllTold,
    /// The same, of a hundred writes the worst but one.
    AllToldP99,
    /// CPU milliseconds of the control plane for a write that concerns few proxies.
    WriteCpu,
    /// Writes a second in a burst.
    Writes,
    /// Writes of a burst that reached a proxy in one push.
    Coalesced,
    /// From a burst's last acknowledgement until every proxy has its last state, milliseconds.
    Settled,
    /// Size of a file, MiB.
    Size,
}

impl Metric {
    /// The head of the column.
    pub(crate) fn label(self) -> &'static str {
        self.shown().0
    }

    /// A number as it is shown, with as many digits as mean something.
    pub(crate) fn format(self, value: f64) -> String {
        format!("{value:.*}", self.shown().1)
    }

    fn shown(self) -> (&'static str, usize) {
        match self {
            Self::Requests => ("requests/s", 0),
            Self::Messages => ("messages/s", 0),
            Self::Connections => ("connections/s", 0),
            Self::Throughput => ("MiB/s", 0),
            Self::P50 => ("p50 µs", 0),
            Self::P99 => ("p99 µs", 0),
            Self::Cpu => ("CPU µs each", 2),
            Self::User => ("user µs each", 2),
            Self::ClientSideCpu => ("CPU µs, client's side", 2),
            Self::ServerSideCpu => ("CPU µs, server's side", 2),
            Self::MessagesPerCpu => ("messages/CPU s", 0),
            Self::ConnectionsPerCpu => ("connections/CPU s", 0),
            Self::GibibyteCpu => ("CPU s/GiB", 3),
            Self::GibibyteUser => ("user s/GiB", 3),
            Self::Before => ("RSS MiB before the calls", 1),
            Self::Resident => ("RSS MiB", 1),
            Self::PerConnection => ("KiB/connection", 2),
            Self::LastToFirst => ("CPU of the last to the first", 3),
            Self::Served => ("s until served", 2),
            Self::ChangeCpu => ("CPU ms/change", 3),
            Self::Churned => ("p99 to that without", 2),
            Self::Busiest => ("% on the busiest worker", 1),
            Self::FirstCall => ("ms that a first call adds", 2),
            Self::FewTold => ("ms until few are told, p50", 2),
            Self::FewToldP99 => ("ms until few are told, p99", 2),
            Self::Seen => ("ms until a request sees it, p50", 2),
            Self::SeenP99 => ("ms until a request sees it, p99", 2),
            Self::AllTold => ("ms until all are told, p50", 2),
            Self::AllToldP99 => ("ms until all are told, p99", 2),
            Self::WriteCpu => ("CPU ms/write", 2),
            Self::Writes => ("writes/s", 0),
            Self::Coalesced => ("writes/push", 1),
            Self::Settled => ("ms until a burst is settled", 0),
            Self::Size => ("MiB", 1),
        }
    }
}

/// The numbers of one measurement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(BTreeMap<Metric, f64>);

impl Sample {
    /// With one more number.
    pub(crate) fn with(mut self, metric: Metric, value: f64) -> Self {
        self.0.insert(metric, value);
        self
    }

    /// The number, if it was measured.
    pub(crate) fn value(&self, metric: Metric) -> Option<f64> {
        self.0.get(&metric).copied()
    }

    /// Which numbers there are.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = Metric> {
        self.0.keys().copied()
    }

    /// The median of each number over several rounds.
    pub(crate) fn medians(samples: &[Self]) -> Self {
        let mut values: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
        for (metric, value) in samples.iter().flat_map(|sample| &sample.0) {
            values.entry(*metric).or_default().push(*value);
        }
        Self(values.into_iter().map(|(metric, values)| (metric, median(values))).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        return values[middle];
    }
    (values[middle - 1] + values[middle]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_one_slow_round() {
        let rounds = [10.0, 99.0, 11.0].map(|cpu| Sample::default().with(Metric::Cpu, cpu));
        assert_eq!(Sample::medians(&rounds).value(Metric::Cpu), Some(11.0));
    }

    #[test]
    fn an_even_number_of_rounds_takes_the_mean_of_both_middles() {
        let rounds = [10.0, 20.0, 12.0, 90.0].map(|cpu| Sample::default().with(Metric::Cpu, cpu));
        assert_eq!(Sample::medians(&rounds).value(Metric::Cpu), Some(16.0));
    }

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        assert_eq!(Metric::Requests.format(48_425.4), "48425");
        assert_eq!(Metric::GibibyteCpu.format(1.2345), "1.234");
    }
}
