//! What people type.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weft::bootstrap::BootstrapOptions;
use weft::cluster::{CheckOptions, InstallOptions, UninstallOptions};
use weft::inject::InjectOptions;
use weft::up::UpOptions;
use weft::workload::{CallOptions, ServeOptions, call, serve};

/// Weft: a service mesh and gateway.
#[derive(Debug, Parser)]
#[command(name = "weft", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a whole mesh on this machine and show what it does
    Up(UpOptions),
    /// The programs that play the workloads of `weft up`
    Workload {
        #[command(subcommand)]
        command: WorkloadCommand,
    },
    /// Print a sidecar's or edge's bootstrap file
    Bootstrap(BootstrapOptions),
    /// Add the sidecar to the pods in Kubernetes files, as the webhook would
    Inject(InjectOptions),
    /// Install Weft in a Kubernetes cluster
    Install(InstallOptions),
    /// Bring an installation in a cluster to this version
    Upgrade(InstallOptions),
    /// Remove Weft from a cluster
    Uninstall(UninstallOptions),
    /// Say what is well with Weft in a cluster, and what is not
    Check(CheckOptions),
}

#[derive(Debug, Subcommand)]
enum WorkloadCommand {
    /// An HTTP service that answers with its version and its caller's identity
    Serve(ServeOptions),
    /// An HTTP client that prints a JSON line for each answer
    Call(CallOptions),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nobody can be told that nobody can be told.
            let _ = writeln!(std::io::stderr(), "weft: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Up(options) => {
            // Before the first thread: this may start the program anew.
            weft_netns::ensure_privileged()?;
            runtime()?.block_on(weft::up::run(&options))
        }
        Command::Workload { command } => runtime()?.block_on(async {
            match command {
                WorkloadCommand::Serve(options) => serve(&options).await?,
                WorkloadCommand::Call(options) => return call(&options).await,
            }
            Ok(ExitCode::SUCCESS)
        }),
        Command::Bootstrap(options) => {
            std::io::stdout().write_all(options.to_yaml()?.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Inject(options) => {
            weft::inject::run(&options)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Install(options) => weft::cluster::install(&options, &mut std::io::stdout()),
        Command::Upgrade(options) => weft::cluster::upgrade(&options, &mut std::io::stdout()),
        Command::Uninstall(options) => weft::cluster::uninstall(&options, &mut std::io::stdout()),
        Command::Check(options) => weft::cluster::check(&options, &mut std::io::stdout()),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
