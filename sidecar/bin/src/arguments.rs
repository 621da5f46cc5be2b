//! Command-line arguments; Envoy's names where Envoy has them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The data plane of Weft: sidecar, node proxy and edge.
#[derive(Debug, Parser)]
#[command(name = "weft-sidecar", version)]
pub(crate) struct Arguments {
    /// The bootstrap file: Envoy v3, YAML or JSON.
    #[arg(short = 'c', long, value_name = "FILE", required_unless_present_any = ["pod", "mode"])]
    pub(crate) config_path: Option<PathBuf>,
    /// Run in a pod: make the bootstrap of the environment that the injector wrote.
    #[arg(long, conflicts_with = "config_path")]
    pub(crate) pod: bool,
    /// Worker threads; as many as there are cores if absent or zero.
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<usize>,
    /// `serve`; `validate`: read the bootstrap file, say what is wrong, and end; `wait`: end as soon
    /// as the proxy of this pod is ready.
    #[arg(long, value_enum, default_value_t = Mode::Serve)]
    pub(crate) mode: Mode,
    /// trace, debug, info, warn (or warning), error (or critical), off; or directives such as `weft_http=debug`.
    #[arg(short = 'l', long, default_value = "info")]
    pub(crate) log_level: String,
    /// Seconds that connections have to end after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) drain_time_s: u64,
    /// Seconds that hosts and clusters fetched on demand are kept without use; an hour if absent.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) on_demand_idle_s: Option<u64>,
    /// Milliseconds that a line of an access log waits at most before it is written to its file.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000)]
    pub(crate) file_flush_interval_msec: u64,
    /// Folder for the last good configuration and certificates; over that of the bootstrap.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state_dir: Option<PathBuf>,
    /// `node.id`, over that of the bootstrap.
    #[arg(long, value_name = "ID")]
    pub(crate) service_node: Option<String>,
    /// `node.cluster`, over that of the bootstrap.
    #[arg(long, value_name = "NAME")]
    pub(crate) service_cluster: Option<String>,
    #[command(flatten)]
    envoy: IgnoredFlags,
}

/// Envoy's flags that a command line made for Envoy may carry; they have no meaning here.
#[derive(Debug, clap::Args)]
struct IgnoredFlags {
    #[arg(long, hide = true)]
    disable_hot_restart: bool,
    #[arg(long, hide = true)]
    allow_unknown_static_fields: bool,
    #[arg(long, hide = true)]
    allow_unknown_fields: bool,
    #[arg(long, hide = true)]
    skip_deprecated_logs: bool,
    #[arg(long, hide = true)]
    drain_strategy: Option<String>,
    #[arg(long, hide = true)]
    parent_shutdown_time_s: Option<u64>,
    #[arg(long, hide = true)]
    local_address_ip_version: Option<String>,
    #[arg(long, hide = true)]
    component_log_level: Option<String>,
    #[arg(long, hide = true)]
    base_id: Option<u64>,
    #[arg(long, hide = true)]
    use_dynamic_base_id: bool,
    #[arg(long, hide = true)]
    restart_epoch: Option<u64>,
    #[arg(long, hide = true)]
    service_zone: Option<String>,
}

/// What the program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Serves traffic.
    Serve,
    /// Reads the bootstrap file and ends.
    Validate,
    /// Waits until another proxy in this pod is ready.
    Wait,
}

impl Arguments {
    /// Worker threads to start, at least one.
    pub(crate) fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.concurrency.filter(|workers| *workers > 0).unwrap_or_else(cores)
    }

    /// The time that connections have to end.
    pub(crate) fn drain_time(&self) -> Duration {
        Duration::from_secs(self.drain_time_s)
    }
}
