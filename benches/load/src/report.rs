//! What the runs showed, as Markdown.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::goals::{Against, GOALS, Goal, Judged, Results, Verdict};
use crate::metric::{Metric, Sample};
use crate::peers::ProxyKind;
use crate::workload::Workload;

/// The table of goals, and below it the details of each workload; numbers are medians over the
/// rounds. Workloads that did not run are left out when `all` is false.
pub(crate) fn markdown(
    results: &Results,
    versions: &[String],
    workloads: &[Box<dyn Workload>],
    all: bool,
) -> String {
    let ran: BTreeSet<_> = results
        .samples
        .keys()
        .chain(results.failures.keys())
        .map(|(workload, _)| *workload)
        .collect();
    let goals = GOALS.iter().filter(|goal| all || ran.contains(goal.workload));
    let mut out = format!("# Results\n\nMeasured: {}. {}\n\n", versions.join("; "), machine());
    out.push_str("| work | Weft | peers | ratio | goal | result |\n");
    out.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for goal in goals {
        out.push_str(&row(goal, results));
    }
    for workload in workloads.iter().filter(|workload| ran.contains(workload.name())) {
        details(workload.as_ref(), results, &mut out);
    }
    out
}

/// The processors and the kernel, as far as the system tells.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let models: Vec<_> = processors.lines().filter(|line| line.starts_with("model name")).collect();
    let model = models.first().and_then(|line| line.split(": ").nth(1)).unwrap_or("processor");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{} × {}, Linux {}.", models.len().max(1), model.trim(), kernel.trim())
}

fn row(goal: &Goal, results: &Results) -> String {
    let judged = goal.judge(results);
    let show =
        |value: Option<f64>| value.map_or("–".to_owned(), |value| goal.metric.format(value));
    let peers: Vec<_> = judged
        .peers
        .iter()
        .map(|(peer, value)| format!("{} {}", peer.name(), show(*value)))
        .collect();
    let peers = if peers.is_empty() { "–".to_owned() } else { peers.join(", ") };
    let ratio = judged.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
    format!(
        "| {} | {} | {peers} | {ratio} | {} | {} |\n",
        goal.work,
        show(judged.weft),
        goal_text(goal),
        result_text(&judged),
    )
}

fn goal_text(goal: &Goal) -> String {
    let names = match goal.against {
        Against::Best(names) => names.iter().map(|peer| peer.name()).collect(),
        Against::Itself => Vec::new(),
    };
    match names.as_slice() {
        [] => goal.limit.show(),
        [one] => format!("{} of {one}", goal.limit.show()),
        more => format!("{} of the better of {}", goal.limit.show(), more.join(" and ")),
    }
}

fn result_text(judged: &Judged) -> String {
    match &judged.verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Short => "**short**".to_owned(),
        Verdict::Open(missing) => {
            let names: Vec<_> = missing.iter().map(|proxy| proxy.name()).collect();
            format!("open: not measured for {}", names.join(", "))
        }
    }
}

/// A table of one workload: every number of every proxy, with Weft's number divided by it.
fn details(workload: &dyn Workload, results: &Results, out: &mut String) {
    // Writing to a string can't fail; so below.
    let _ = writeln!(out, "\n### {}: {}\n", workload.name(), workload.title());
    let medians: Vec<_> = ProxyKind::ALL
        .into_iter()
        .filter_map(|proxy| Some((proxy, results.median(workload.name(), proxy)?)))
        .collect();
    let columns: BTreeSet<Metric> =
        medians.iter().flat_map(|(_, sample)| sample.metrics()).collect();
    if !medians.is_empty() {
        let labels: Vec<_> = columns.iter().map(|metric| metric.label()).collect();
        let _ = writeln!(out, "| proxy | {} |", labels.join(" | "));
        let _ = writeln!(out, "| --- |{}", " --- |".repeat(columns.len()));
    }
    let weft = medians.iter().find(|(proxy, _)| *proxy == ProxyKind::Weft);
    for (proxy, sample) in &medians {
        let weft = weft.map(|(_, sample)| sample).filter(|_| *proxy != ProxyKind::Weft);
        let cells: Vec<_> = columns.iter().map(|metric| cell(*metric, sample, weft)).collect();
        let _ = writeln!(out, "| {} | {} |", proxy.name(), cells.join(" | "));
    }
    for ((name, proxy), error) in &results.failures {
        if *name == workload.name() {
            let _ = writeln!(out, "\n{} was not measured: {error}", proxy.name());
        }
    }
}

/// A number, and for a peer what Weft's divided by it is.
fn cell(metric: Metric, sample: &Sample, weft: Option<&Sample>) -> String {
    let Some(value) = sample.value(metric) else { return "–".to_owned() };
    match weft.and_then(|weft| weft.value(metric)) {
        Some(weft) => format!("{} (×{:.2})", metric.format(value), weft / value),
        None => metric.format(value),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Results {
        let mut results = Results::default();
        for (proxy, cpu) in
            [(ProxyKind::Weft, 19.0), (ProxyKind::Haproxy, 20.0), (ProxyKind::Nginx, 25.0)]
        {
            let sample = Sample::default().with(Metric::Cpu, cpu).with(Metric::User, cpu / 2.0);
            results.samples.insert(("http1", proxy), vec![sample]);
        }
        results.failures.insert(("http1", ProxyKind::Envoy), "it ended".to_owned());
        results
    }

    fn text(all: bool) -> String {
        markdown(&measured(), &["Weft 1.2".to_owned()], &crate::workload::all(), all)
    }

    #[test]
    fn a_row_shows_the_numbers_the_ratio_and_the_result() {
        let row = "| HTTP/1.1, CPU per request | 19.00 | HAProxy 20.00, nginx 25.00 | 0.95 | \
                   ≤ 0.95 of the better of HAProxy and nginx | pass |";
        assert!(text(false).contains(row), "{}", text(false));
    }

    #[test]
    fn a_peer_that_failed_is_said_in_its_row_and_with_its_reason_below() {
        let text = text(false);
        assert!(text.contains("| Envoy – | – | ≤ 0.33 of Envoy | open: not measured for Envoy |"));
        assert!(text.contains("Envoy was not measured: it ended"), "{text}");
    }

    #[test]
    fn details_divide_wefts_numbers_by_each_peers() {
        assert!(text(false).contains("| HAProxy | 20.00 (×0.95) | 10.00 (×0.95) |"));
    }

    #[test]
    fn only_a_whole_run_lists_what_did_not_run() {
        assert!(!text(false).contains("idle memory"));
        assert!(text(true).contains("| idle memory, MiB | – | – | – | ≤ 10 | open:"));
    }
}
