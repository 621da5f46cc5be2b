//! Instruction counts of hot functions, and the guard against their growth.
//!
//! Time on a shared machine says little; the number of instructions is nearly the same in every
//! run. Each case runs in a process of its own under Callgrind, which counts inside of one function
//! only, and `baseline.json` holds what was counted before.

mod baseline;
mod callgrind;
mod cases;
mod measured;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::baseline::Baseline;
use crate::cases::CASES;

/// Counts the instructions of hot functions.
#[derive(Parser)]
struct Arguments {
    /// What to do.
    #[command(subcommand)]
    command: Command,
    /// Only cases whose name contains this.
    #[arg(long, global = true, default_value = "")]
    only: String,
    /// What was counted before.
    #[arg(long, global = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json"))]
    baseline: PathBuf,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// Counts and compares with the baseline; fails if a count has grown.
    Check,
    /// Counts and writes the baseline anew.
    Renew,
    /// Names the cases.
    List,
    /// Runs one case; what is counted is called by `check` and `renew` this way.
    Run {
        /// The case.
        name: String,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Command::List => CASES.iter().for_each(|case| {
            show(&format!("{:<24}{}", case.name, case.what));
        }),
        Command::Run { name } => measured::run(cases::named(name)?)?,
        Command::Check => check(&arguments.baseline, &count(&arguments.only)?, &arguments.only)?,
        Command::Renew => {
            ensure!(arguments.only.is_empty(), "the baseline is renewed as a whole");
            Baseline::new(count("")?).write(&arguments.baseline)?;
        }
    }
    Ok(())
}

/// Instructions for one unit of each case.
fn count(only: &str) -> Result<BTreeMap<String, f64>> {
    callgrind::check_machine()?;
    let folder = tempfile::tempdir().context("a folder for what Callgrind writes")?;
    let mut counts = BTreeMap::new();
    for case in CASES.iter().filter(|case| case.name.contains(only)) {
        let total = callgrind::count(case.name, folder.path())?;
        let each = total as f64 / f64::from(case.units);
        show(&format!("{:<24}{each:>14.1} instructions", case.name));
        // Tenths are enough, and keep differences of the file small.
        counts.insert(case.name.to_owned(), (each * 10.0).round() / 10.0);
    }
    ensure!(!counts.is_empty(), "no case has {only:?} in its name");
    Ok(counts)
}

fn check(file: &Path, counts: &BTreeMap<String, f64>, only: &str) -> Result<()> {
    let comparison = Baseline::read(file)?.compare(counts, only);
    comparison.notes.iter().for_each(|note| show(note));
    if !comparison.failures.is_empty() {
        bail!(
            "{}\nIf that is meant: make bench-micro MICRO=renew, and say why in the commit",
            comparison.failures.join("\n")
        );
    }
    show("no count has grown");
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the result of a command-line program")]
fn show(text: &str) {
    println!("{text}");
}
