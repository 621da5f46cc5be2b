//! Side-by-side load runs against other proxies.
//!
//! Every proxy gets the same work in the same run: pinned to one core, one
//! worker, while the load and the backend share another. What counts are the
//! ratios within one run; the numbers themselves belong to the machine.

mod backend;
mod certificates;
mod histogram;
mod load;
mod peers;
mod process;
mod report;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::peers::{Proxy, ProxyKind};
use crate::report::Report;
use crate::workload::Workload;

/// Measures weft-sidecar side by side with HAProxy, nginx and Envoy.
#[derive(Parser)]
struct Arguments {
    /// Seconds that each proxy is measured for, after a second of warming up.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// How often each measurement is repeated; medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these workloads: http1, http2, tcp, mtls.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
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
    ensure!(
        std::thread::available_parallelism()?.get() >= 2,
        "two cores are needed: one for the proxy, one for the load and the backend"
    );
    let proxies = peers::find(arguments.sidecar.as_deref(), &arguments.proxies)?;
    let folder = tempfile::tempdir().context("a folder for configurations")?;
    let mut report = Report::new(&proxies);
    for workload in Workload::ALL {
        let wanted =
            arguments.only.is_empty() || arguments.only.iter().any(|name| name == workload.name());
        if wanted {
            measure_all(workload, &proxies, &arguments, folder.path(), &mut report)?;
        }
    }
    let text = report.markdown();
    report::show(&text);
    if let Some(path) = &arguments.output {
        std::fs::write(path, &text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Measures every proxy in turn, as often as there are rounds, so that a slow moment of the machine
/// does not hit one proxy alone.
fn measure_all(
    workload: Workload,
    proxies: &[Proxy],
    arguments: &Arguments,
    folder: &std::path::Path,
    report: &mut Report,
) -> Result<()> {
    let able: Vec<_> = proxies.iter().filter(|proxy| workload.suits(proxy.kind)).collect();
    for round in 0..arguments.rounds {
        for proxy in &able {
            report::progress(&format!(
                "{}: {} ({}/{})",
                workload.title(),
                proxy.kind.name(),
                round + 1,
                arguments.rounds
            ));
            let duration = Duration::from_secs_f64(arguments.seconds);
            let result = workload
                .run(proxy, folder, arguments.connections, duration)
                .with_context(|| format!("{} with {}", workload.title(), proxy.kind.name()));
            match result {
                Ok(sample) => report.add(workload, proxy.kind, sample),
                Err(error) if proxy.kind == ProxyKind::Weft => return Err(error),
                Err(error) => report.failed(workload, proxy.kind, &error),
            }
        }
    }
    Ok(())
}
