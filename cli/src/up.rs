//! `weft up`: a whole mesh on one machine, shown to do what it claims.

mod api;
mod checks;
mod load;
mod mesh;
mod place;
mod process;
mod screen;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use checks::Verdict;
use mesh::Mesh;
use place::Place;
use screen::Screen;

/// How the demonstration runs.
#[derive(Debug, Clone, Args)]
pub struct UpOptions {
    /// Verify every claim, clean up, and exit with 1 if one fails
    #[arg(long)]
    pub check: bool,
    /// Folder for logs and state instead of a temporary one; it is kept
    #[arg(long)]
    pub folder: Option<PathBuf>,
}

/// Starts the mesh, shows its claims, and ends it: at once with `--check`, else on Ctrl-C.
///
/// # Errors
///
/// When the mesh can't be started; the message names the folder with the logs.
pub async fn run(options: &UpOptions) -> Result<ExitCode> {
    let screen = Screen::start();
    let mut place = Place::create(options.folder.as_deref())?;
    // Processes and namespaces go with the future that does not win.
    let shown = tokio::select! {
        shown = show(&screen, &place, options.check) => shown,
        signal = until_signal() => {
            screen.note(&format!("{}: ended", signal?));
            return Ok(ExitCode::FAILURE);
        }
    };
    let ended = match shown {
        Ok((mesh, holds)) => end(&screen, mesh, options.check).await.map(|()| holds),
        Err(error) => Err(error),
    };
    match ended {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => {
            screen.note(&format!("logs: {}", place.keep().display()));
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.context(format!("logs: {}", place.keep().display()))),
    }
}

/// The running mesh, and whether every claim held.
async fn show<'a>(screen: &Screen, place: &'a Place, unattended: bool) -> Result<(Mesh<'a>, bool)> {
    let mut mesh = Mesh::start(screen, place).await?;
    let verdicts = checks::run_all(screen, &mut mesh).await;
    screen.table(&verdicts);
    if !unattended {
        screen.note(&mesh.directions()?);
    }
    Ok((mesh, verdicts.iter().all(Verdict::holds)))
}

async fn end(screen: &Screen, mesh: Mesh<'_>, unattended: bool) -> Result<()> {
    if !unattended {
        let signal = until_signal().await?;
        screen.note(&format!("{signal}: ending"));
    }
    mesh.stop().await
}

async fn until_signal() -> Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    })
}
