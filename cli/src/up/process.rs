//! Processes of the mesh: started, waited for until ready, and ended.

use std::fs::{self, File};
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

/// How long a process may take to be ready, and to end.
const READY_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(25);
/// How much of a log an error shows.
const LAST_LINES: usize = 12;

/// A running process, ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command whose output goes to a log file.
    pub(crate) fn start(name: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C reaches this program alone, which then ends the others in order.
            .process_group(0);
        let child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Asks until the answer is yes; an end of the process meanwhile is an error.
    pub(crate) async fn ready<F>(&mut self, mut is_ready: impl FnMut() -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let Err(not_yet) = is_ready().await else {
                return Ok(());
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}):\n{}", self.name, self.last_lines());
            }
            if Instant::now() > deadline {
                let lines = self.last_lines();
                let what = format!("{} is not ready after {READY_WITHIN:?}", self.name);
                return Err(not_yet.context(format!("{what}; it said:\n{lines}\nstill")));
            }
            sleep(POLL).await;
        }
    }

    /// Ends the process with SIGTERM, and with SIGKILL if it does not heed that.
    pub(crate) async fn stop(mut self) -> Result<ExitStatus> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself just now.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if let Ok(status) = timeout(END_WITHIN, self.child.wait()).await {
            return Ok(status?);
        }
        self.child.kill().await?;
        bail!("{} did not end within {END_WITHIN:?} of SIGTERM", self.name)
    }

    fn last_lines(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let lines = &lines[lines.len().saturating_sub(LAST_LINES)..];
        lines.iter().map(|line| format!("    {line}\n")).collect()
    }
}

/// Asks until the answer is there, within a time.
pub(crate) async fn wait_for<T, F>(
    within: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{what}: not within {within:?}")));
            }
            Err(_) => sleep(POLL).await,
        }
    }
}

/// Runs a command to its end and returns its standard output.
pub(crate) async fn output(name: &str, command: Command) -> Result<String> {
    let output = run(name, command).await?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command to its end, whatever that is.
pub(crate) async fn run(name: &str, command: Command) -> Result<Output> {
    tokio::process::Command::from(command)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot start {name}"))
}
