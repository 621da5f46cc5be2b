//! Calls of the `ip` program, with what it complained about in the error.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::Error;

/// Runs `ip` with these arguments and returns its standard output.
pub(crate) fn ip(arguments: &[&str]) -> Result<String, Error> {
    run(arguments, None)
}

/// Runs a batch of `ip` lines inside a namespace, stopping at the first failure.
pub(crate) fn batch(namespace: &str, lines: &str) -> Result<(), Error> {
    run(&["-n", namespace, "-batch", "-"], Some(lines)).map(drop)
}

fn run(arguments: &[&str], input: Option<&str>) -> Result<String, Error> {
    let shown = match input {
        Some(lines) => format!("ip {} <<< {:?}", arguments.join(" "), lines.trim()),
        None => format!("ip {}", arguments.join(" ")),
    };
    let start = |source| Error::Start { command: shown.clone(), source };
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let (Some(lines), Some(mut stdin)) = (input, child.stdin.take()) {
        // A child that ended early says why on its standard error.
        let _ = stdin.write_all(lines.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Failed {
        command: shown.clone(),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
