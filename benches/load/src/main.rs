//! Side-by-side load runs against other proxies.
//!
//! Every proxy gets the same work in the same run: pinned to one core, one
//! worker, while the load and the backend share another. What counts are the
//! ratios within one run; the numbers themselves belong to the machine.

mod backend;
mod certificates;
mod goals;
mod histogram;
mod load;
mod mesh;
mod metric;
mod peers;
mod process;
mod propagation;
mod report;
mod sockets;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::goals::Results;
use crate::peers::{Proxy, ProxyKind};
use crate::workload::{Conditions, Workload};

/// Measures weft-sidecar side by side with HAProxy, nginx and Envoy, and compares with its goals.
#[derive(Parser)]
struct Arguments {
    /// Seconds that each proxy is measured for, after a second of warming up.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// How often each measurement is repeated; medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// One round of one second each: shows that everything runs; the numbers are rough.
    #[arg(long)]
    quick: bool,
    /// Only these workloads, of those that --list names.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Names the workloads and ends.
    #[arg(long)]
    list: bool,
    /// Only these proxies: weft, envoy, haproxy, nginx.
    #[arg(long, value_delimiter = ',')]
    proxies: Vec<String>,
    /// The weft-sidecar to measure; the one beside this program if absent.
    #[arg(long)]
    sidecar: Option<PathBuf>,
    /// Connections at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Writes the tables there too, as Markdown.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut workloads = workload::all();
    if arguments.list {
        for workload in &workloads {
            report::show(&format!("{:<16}{}", workload.name(), workload.title()));
        }
        return Ok(());
    }
    ensure!(
        std::thread::available_parallelism()?.get() >= 2,
        "two cores are needed: one for the proxy, one for the load and the backend"
    );
    let wanted = wanted(&arguments.only, &workloads)?;
    workloads.retain(|workload| wanted.contains(&workload.name()));
    sockets::raise_descriptor_limit()?;
    let proxies = peers::find(arguments.sidecar.as_deref(), &arguments.proxies)?;
    let folder = tempfile::tempdir().context("a folder for configurations")?;
    let (seconds, rounds) =
        if arguments.quick { (1.0, 1) } else { (arguments.seconds, arguments.rounds) };
    let conditions = Conditions {
        folder: folder.path().to_owned(),
        connections: arguments.connections,
        warm_up: Duration::from_secs_f64(f64::min(seconds / 2.0, 1.0)),
        measured: Duration::from_secs_f64(seconds),
    };
    let mut results = Results::default();
    for workload in &mut workloads {
        measure(workload.as_mut(), &proxies, &conditions, rounds, &mut results);
    }
    let versions: Vec<_> = proxies.iter().map(|proxy| proxy.version.clone()).collect();
    let text = report::markdown(&results, &versions, &workloads, arguments.only.is_empty());
    report::show(&text);
    if let Some(path) = &arguments.output {
        std::fs::write(path, &text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// The names of the workloads that were asked for; all of them if none was named.
fn wanted(only: &[String], workloads: &[Box<dyn Workload>]) -> Result<Vec<&'static str>> {
    let names: Vec<_> = workloads.iter().map(|workload| workload.name()).collect();
    let unknown: Vec<_> = only.iter().filter(|name| !names.contains(&name.as_str())).collect();
    ensure!(unknown.is_empty(), "unknown: {unknown:?}; there are: {}", names.join(", "));
    let asked = |name: &&str| only.is_empty() || only.iter().any(|asked| asked == name);
    Ok(names.into_iter().filter(asked).collect())
}

/// Measures every proxy in turn, as often as there are rounds, so that a slow moment of the machine
/// does not hit one proxy alone.
fn measure(
    workload: &mut dyn Workload,
    proxies: &[Proxy],
    conditions: &Conditions,
    rounds: usize,
    results: &mut Results,
) {
    let able: Vec<_> = proxies.iter().filter(|proxy| workload.suits(proxy.kind)).collect();
    let name = workload.name();
    report::progress(&format!("{name}: preparing"));
    if let Err(error) = workload.prepare(&able, conditions) {
        results.failures.insert((name, ProxyKind::Weft), format!("{error:#}"));
        return;
    }
    let rounds = workload.rounds(rounds);
    for round in 1..=rounds {
        for proxy in &able {
            let key = (name, proxy.kind);
            report::progress(&format!("{name}: {} ({round}/{rounds})", proxy.kind.name()));
            match workload.measure(proxy, conditions) {
                Ok(sample) => results.samples.entry(key).or_default().push(sample),
                Err(error) => {
                    report::progress(&format!("{error:#}"));
                    results.failures.insert(key, format!("{error:#}"));
                }
            }
        }
    }
}
