//! `weft-fuzz`: runs targets without more than stable Rust.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use weft_fuzz::{Limits, Target, bounded, replay, run, targets};

/// Tries inputs on what reads bytes from outside.
#[derive(Debug, Parser)]
enum Command {
    /// Lists the targets.
    List,
    /// Runs a target on mutations of its seeds.
    Run {
        /// Which one.
        target: String,
        /// How many inputs; as many as the quick run has, if neither this nor a time is said.
        #[arg(long)]
        inputs: Option<u32>,
        /// For how many seconds.
        #[arg(long)]
        seconds: Option<u64>,
        /// What the mutations follow from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where the input that is tried is kept; slow.
        #[arg(long)]
        last: Option<PathBuf>,
    },
    /// Runs a target on the inputs of some files.
    Replay {
        /// Which one.
        target: String,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// Writes a target's seeds and words where libFuzzer finds them.
    Seeds {
        /// Which one.
        target: String,
        /// The folder of the seeds.
        folder: PathBuf,
        /// The file of the words.
        words: PathBuf,
    },
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::List => targets().iter().for_each(|target| show(target.name)),
        Command::Run { target, inputs, seconds, seed, last } => {
            let target = named(&target)?;
            let quick = if seconds.is_some() { u32::MAX } else { target.quick };
            let time = seconds.map(Duration::from_secs);
            bounded()?;
            let limits = Limits { inputs: inputs.unwrap_or(quick), time, seed };
            let tried = run(target, limits, last.as_deref())?;
            show(&format!("{}: nothing breaks it in {tried} inputs", target.name));
        }
        Command::Replay { target, files } => {
            let target = named(&target)?;
            files.iter().try_for_each(|file| replay(target, file))?;
        }
        Command::Seeds { target, folder, words } => {
            let target = named(&target)?;
            std::fs::create_dir_all(&folder)?;
            for (index, seed) in (target.seeds)().iter().enumerate() {
                std::fs::write(folder.join(format!("seed-{index}")), seed)?;
            }
            let lines: String = target.words.iter().map(|word| quoted(word)).collect();
            std::fs::write(words, lines)?;
        }
    }
    Ok(())
}

fn named(name: &str) -> Result<Target> {
    Target::named(name).with_context(|| format!("no target is named {name:?}"))
}

/// A line of libFuzzer's dictionaries.
fn quoted(word: &str) -> String {
    let escaped: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
    format!("\"{escaped}\"\n")
}

#[allow(clippy::print_stdout, reason = "the result of a command-line program")]
fn show(text: &str) {
    println!("{text}");
}
