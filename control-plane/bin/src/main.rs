//! The control plane program: arguments, logs, signals.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weft_control_plane::{Config, ControlPlane, issue_token};

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
    if let Some(Command::Token { namespace, service_account, hours }) = &arguments.command {
        let ttl = Duration::from_secs(u64::from(*hours) * 3600);
        let token = issue_token(&config.data_dir, namespace, service_account, ttl)?;
        return writeln!(std::io::stdout(), "{token}").context("can't print the token");
    }
    start_log(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config))
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
