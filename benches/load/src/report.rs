//! What the runs showed, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::peers::{Proxy, ProxyKind};
use crate::workload::{Sample, Unit, Workload};

/// All samples of a run.
pub(crate) struct Report {
    versions: Vec<String>,
    samples: BTreeMap<(Workload, ProxyKind), Vec<Sample>>,
    failures: BTreeMap<(Workload, ProxyKind), String>,
}

impl Report {
    pub(crate) fn new(proxies: &[Proxy]) -> Self {
        let versions = proxies.iter().map(|proxy| proxy.version.clone()).collect();
        Self { versions, samples: BTreeMap::new(), failures: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, workload: Workload, proxy: ProxyKind, sample: Sample) {
        self.samples.entry((workload, proxy)).or_default().push(sample);
    }

    pub(crate) fn failed(&mut self, workload: Workload, proxy: ProxyKind, error: &anyhow::Error) {
        self.failures.insert((workload, proxy), format!("{error:#}"));
    }

    /// One table for each workload; every number is the median over the rounds.
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("Measured: {}\n", self.versions.join("; "));
        for workload in Workload::ALL {
            self.table(workload, &mut out);
        }
        for ((workload, proxy), error) in &self.failures {
            // Writing to a string can't fail; so below.
            let _ = writeln!(
                out,
                "\n{} was not measured for {}: {error}",
                proxy.name(),
                workload.title()
            );
        }
        out
    }

    fn table(&self, workload: Workload, out: &mut String) {
        let rows: Vec<_> = self.samples.iter().filter(|((row, _), _)| *row == workload).collect();
        let Some(weft) = self.samples.get(&(workload, ProxyKind::Weft)) else { return };
        let weft = medians(weft);
        let (rate, cost) = match workload.unit() {
            Unit::Request => ("requests/s", "CPU µs/request (user)"),
            Unit::Gibibyte => ("MiB/s", "CPU s/GiB (user)"),
        };
        let _ = writeln!(out, "\n### {}\n", workload.title());
        let _ = writeln!(
            out,
            "| proxy | {rate} | p50 µs | p99 µs | {cost} | RSS MiB | Weft's CPU to it | Weft's rate to it |"
        );
        let _ = writeln!(out, "| --- | --- | --- | --- | --- | --- | --- | --- |");
        for ((_, proxy), samples) in rows {
            let own = medians(samples);
            let latency =
                |value: u64| if value == 0 { "–".to_owned() } else { value.to_string() };
            let _ = writeln!(
                out,
                "| {} | {:.0} | {} | {} | {:.2} ({:.2}) | {:.1} | {:.2} | {:.2} |",
                proxy.name(),
                own.rate,
                latency(own.p50),
                latency(own.p99),
                own.cpu,
                own.user,
                own.resident,
                weft.cpu / own.cpu,
                weft.rate / own.rate,
            );
        }
    }
}

fn medians(samples: &[Sample]) -> Sample {
    let median = |value: fn(&Sample) -> f64| {
        let mut values: Vec<_> = samples.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Sample {
        rate: median(|sample| sample.rate),
        p50: median(|sample| sample.p50 as f64) as u64,
        p99: median(|sample| sample.p99 as f64) as u64,
        cpu: median(|sample| sample.cpu),
        user: median(|sample| sample.user),
        resident: median(|sample| sample.resident),
    }
}

/// Says on the standard error what is being done.
#[allow(clippy::print_stderr, reason = "progress of a command-line program")]
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}

/// Prints the report.
#[allow(clippy::print_stdout, reason = "the result of a command-line program")]
pub(crate) fn show(text: &str) {
    println!("{text}");
}
