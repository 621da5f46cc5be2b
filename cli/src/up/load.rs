//! Requests of the client workload, and what their answers say.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::workload::Outcome;

const END_WITHIN: Duration = Duration::from_secs(10);

/// What became of some requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) outcomes: Vec<Outcome>,
}

impl Sample {
    /// Reads the lines that `weft workload call` printed.
    pub(crate) fn parse(lines: &str) -> Result<Self> {
        let outcomes = lines
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
            .collect::<Result<_>>()?;
        Ok(Self { outcomes })
    }

    /// The requests sent at this time (Unix milliseconds) or later.
    pub(crate) fn since(&self, at: u64) -> Self {
        let late = self.outcomes.iter().filter(|outcome| outcome.at >= at);
        Self { outcomes: late.cloned().collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// An error with the first failure, if there is one.
    pub(crate) fn all_succeeded(&self) -> Result<()> {
        let mut failed = self.outcomes.iter().filter(|outcome| !outcome.is_success());
        let Some(first) = failed.next() else {
            return Ok(());
        };
        let status = first.status.map(|status| format!("status {status}"));
        let why = first.error.clone().or(status).unwrap_or_default();
        bail!("{} of {} requests failed, first: {why}", 1 + failed.count(), self.len())
    }

    /// How many answers came from a version.
    pub(crate) fn of_version(&self, version: &str) -> usize {
        let greetings = self.outcomes.iter().filter_map(|outcome| outcome.greeting.as_ref());
        greetings.filter(|greeting| greeting.version == version).count()
    }

    /// The share of a version in percent, or an error if it is further from
    /// `percent` than chance explains (four standard deviations, one in 16,000).
    pub(crate) fn expect_share(&self, version: &str, percent: f64) -> Result<f64> {
        let total = self.len() as f64;
        if self.outcomes.is_empty() {
            bail!("there were no requests");
        }
        let seen = 100.0 * self.of_version(version) as f64 / total;
        let deviation = (percent * (100.0 - percent) / total).sqrt();
        if (seen - percent).abs() > 4.0 * deviation {
            bail!(
                "{version} answered {seen:.1} % of {} requests instead of {percent} % ± {:.1}",
                self.len(),
                4.0 * deviation
            );
        }
        Ok(seen)
    }
}

/// A client that goes on calling until it is stopped.
#[derive(Debug)]
pub(crate) struct Load {
    child: Child,
    reader: JoinHandle<Result<()>>,
    seen: Arc<Mutex<Sample>>,
}

impl Load {
    /// Starts the command, which prints an outcome a line.
    pub(crate) fn start(command: std::process::Command) -> Result<Self> {
        let mut command = Command::from(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child =
            command.process_group(0).kill_on_drop(true).spawn().context("cannot start the load")?;
        let output = child.stdout.take().context("the load has no output")?;
        let seen = Arc::new(Mutex::new(Sample::default()));
        let sink = seen.clone();
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await? {
                let outcome = serde_json::from_str(&line)?;
                sink.lock().unwrap_or_else(PoisonError::into_inner).outcomes.push(outcome);
            }
            Ok(())
        });
        Ok(Self { child, reader, seen })
    }

    /// What has come back until now.
    pub(crate) fn seen(&self) -> Sample {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this many requests were sent at `at` (Unix milliseconds) or later.
    pub(crate) async fn wait_for_requests(&self, count: usize, at: u64) -> Result<()> {
        let within = Duration::from_secs(30);
        super::process::wait_for(within, "requests of the load", || async {
            let seen = self.seen().since(at).len();
            if seen >= count { Ok(()) } else { bail!("{seen} of {count}") }
        })
        .await
    }

    /// Ends the client and returns everything that came back.
    pub(crate) async fn stop(mut self) -> Result<Sample> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself just now.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        timeout(END_WITHIN, self.child.wait()).await.context("the load does not end")??;
        (&mut self.reader).await??;
        Ok(self.seen())
    }
}

/// Now, in Unix milliseconds.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Greeting;

    fn sample(v1: usize, v2: usize) -> Sample {
        let outcome = |version: &str| Outcome {
            at: 0,
            status: Some(200),
            greeting: Some(Greeting {
                service: "greeter".to_owned(),
                version: version.to_owned(),
                caller: None,
            }),
            error: None,
        };
        let first = std::iter::repeat_n(outcome("v1"), v1);
        let second = std::iter::repeat_n(outcome("v2"), v2);
        Sample { outcomes: first.chain(second).collect() }
    }

    #[test]
    fn a_share_within_chance_is_accepted_and_one_outside_is_not() {
        assert!(sample(900, 100).expect_share("v2", 10.0).is_ok());
        assert!(sample(870, 130).expect_share("v2", 10.0).is_ok());
        assert!(sample(500, 500).expect_share("v2", 10.0).is_err());
        assert!(sample(1000, 0).expect_share("v2", 10.0).is_err());
        assert!(sample(0, 0).expect_share("v2", 10.0).is_err());
    }

    #[test]
    fn a_failure_is_counted_and_named() {
        let mut sample = sample(3, 0);
        sample.outcomes[1].status = Some(503);
        let error = sample.all_succeeded().unwrap_err().to_string();
        assert_eq!(error, "1 of 3 requests failed, first: status 503");
    }
}
