//! The control plane program: arguments, logs, signals.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weft_control_plane::{Config, ControlPlane, export, import, issue_token};
use weft_store::{Format, Imported};

/// Weft's control plane: Admin API, xDS and certificates
#[derive(Debug, Parser)]
#[command(name = "weft-control-plane", version)]
struct Arguments {
    /// Configuration file (YAML); without one, the defaults hold
    #[arg(short = 'c', long = "config", global = true)]
    config: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or by module
    #[arg(short = 'l', long, default_value = "info", global = true)]
    log_level: String,
    /// Write logs as JSON
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a token with which a workload proves its service account
    Token {
        /// The workload's namespace
        #[arg(long, default_value = "default")]
        namespace: String,
        /// The workload's service account
        #[arg(long, default_value = "default")]
        service_account: String,
        /// How long it is valid, in hours
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
    /// Write the resources of the store as a declarative file: apisix.yaml or .json
    Export {
        /// The file, JSON if it is called so, else YAML; without one, YAML is printed
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Bring the store to what a declarative file says
    Import {
        /// The file, JSON if it is called so, else YAML
        file: PathBuf,
        /// Delete what the file doesn't say
        #[arg(long)]
        replace: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may be off; the reason of the end is told anyway.
            let _ = writeln!(std::io::stderr(), "weft-control-plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match &arguments.command {
        None => {
            start_log(arguments)?;
            runtime.block_on(serve(config))
        }
        Some(Command::Token { namespace, service_account, hours }) => {
            let ttl = Duration::from_secs(u64::from(*hours) * 3600);
            let token = issue_token(&config.data_dir, namespace, service_account, ttl)?;
            print(&format!("{token}\n"))
        }
        Some(Command::Export { output }) => {
            let format = output.as_deref().map_or(Format::Yaml, Format::of);
            let text = runtime.block_on(export(&config, format))?;
            match output {
                Some(path) => write_private(path, &text)
                    .with_context(|| format!("can't write {}", path.display())),
                None => print(&text),
            }
        }
        Some(Command::Import { file, replace }) => {
            let Imported { written, deleted, unchanged } =
                runtime.block_on(import(&config, file, *replace))?;
            print(&format!("{written} written, {deleted} deleted, {unchanged} unchanged\n"))
        }
    }
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("can't print")
}

/// Private keys are in it: nobody else may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

async fn serve(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut control_plane = ControlPlane::start(config).await?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        failed = control_plane.failure() => failed,
    };
    tracing::info!("ending");
    control_plane.shutdown().await;
    ended
}

fn start_log(arguments: &Arguments) -> Result<()> {
    let filter = EnvFilter::try_new(&arguments.log_level)
        .with_context(|| format!("--log-level {:?}", arguments.log_level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if arguments.log_json {
        builder.json().init();
    } else {
        builder.init();
    }
    Ok(())
}
