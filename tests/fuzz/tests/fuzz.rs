//! A short run of every target, the same each time.

#![allow(clippy::unwrap_used, reason = "a test that finds something missing has failed")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use weft_fuzz::{Target, targets};

/// Runs a target in a process of its own: it may end in any way.
fn quick(target: Target, more: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    // Longer means that an input is never done with.
    command.args(["300", env!("CARGO_BIN_EXE_weft-fuzz"), "run", target.name]).args(more);
    command.stdin(Stdio::null()).output().unwrap()
}

/// What broke the target, if anything did.
fn broken(target: Target) -> Option<String> {
    let output = quick(target, &[]);
    if output.status.success() {
        return None;
    }
    let last = Path::new(env!("CARGO_TARGET_TMPDIR")).join(target.name);
    let last = last.to_str().unwrap();
    quick(target, &["--last", last]);
    let said = String::from_utf8_lossy(&output.stderr);
    Some(format!("{} ({}) by {last}:\n{said}", target.name, output.status))
}

#[test]
fn no_input_breaks_a_target() {
    let halves = [0, 1].map(|half| {
        let targets = targets().iter().skip(half).step_by(2).copied();
        thread::spawn(move || targets.filter_map(broken).collect::<Vec<_>>())
    });
    let broken: Vec<_> = halves.into_iter().flat_map(|half| half.join().unwrap()).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
