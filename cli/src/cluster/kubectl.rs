//! Running `kubectl`.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The user's `kubectl`.
pub(super) struct Kubectl {
    program: PathBuf,
    context: Option<String>,
}

impl Kubectl {
    pub(super) fn new(program: PathBuf, context: Option<String>) -> Self {
        Self { program, context }
    }

    /// Runs it and returns what it prints.
    pub(super) fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = Command::new(&self.program);
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let place = || format!("can't run {}", self.program.display());
        let mut child = command.spawn().with_context(place)?;
        let writing = child.stdin.take().zip(input).map(|(mut pipe, input)| {
            let input = input.to_owned();
            // It may print before it has read everything.
            std::thread::spawn(move || pipe.write_all(input.as_bytes()))
        });
        let output = child.wait_with_output().with_context(place)?;
        if let Some(writing) = writing {
            // What it did not want to read is in its own words below.
            let _ = writing.join();
        }
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            bail!("kubectl {}: {}", arguments.join(" "), reason.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `kubectl get … --output=json`
    pub(super) fn get(&self, what: &[&str]) -> Result<Value> {
        let text = self.run(&[&["get"], what, &["--output=json"]].concat(), None)?;
        serde_json::from_str(&text).context("kubectl prints no JSON")
    }

    /// The same, or nothing if there is no such object.
    pub(super) fn find(&self, what: &[&str]) -> Result<Option<Value>> {
        let arguments = [&["get"], what, &["--ignore-not-found", "--output=json"]].concat();
        let text = self.run(&arguments, None)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&text).map(Some).context("kubectl prints no JSON")
    }

    /// `kubectl auth can-i`
    pub(super) fn may(&self, verb: &str, resource: &str) -> bool {
        // The answer no is an exit code too.
        let answer = self.run(&["auth", "can-i", verb, resource, "--all-namespaces"], None);
        answer.is_ok_and(|answer| answer.trim() == "yes")
    }
}
