//! Runs a target on its seeds, on what was found before, and on mutations of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, setrlimit};

use crate::{Mutator, Target};

/// The address space of a run, bytes.
const ADDRESS_SPACE: u64 = 4 << 30;
/// How much a run may keep that was not there after its first quarter, bytes.
const GROWTH: u64 = 48 << 20;

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After so many inputs.
    pub inputs: u32,
    /// Or after so long.
    pub time: Option<Duration>,
    /// What the mutations follow from.
    pub seed: u64,
}

/// Bounds the memory of this process: what grows without an end is to fail, not to fill the
/// machine.
///
/// # Errors
/// The system does not allow it.
pub fn bounded() -> Result<()> {
    setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE, ADDRESS_SPACE).context("bounding the memory")
}

/// Runs a target on one file.
///
/// # Errors
/// The file can't be read.
pub fn replay(target: Target, file: &Path) -> Result<()> {
    let input = fs::read(file).with_context(|| file.display().to_string())?;
    (target.run)(&input);
    Ok(())
}

/// Runs a target within limits. What is tried is kept in `last`, if there is one: after a failure
/// that ends the process the same run says there by what. Gives how many were tried.
///
/// # Errors
/// Files can't be read or written, or memory grows from input to input.
///
/// # Panics
/// An input breaks the target.
pub fn run(target: Target, limits: Limits, last: Option<&Path>) -> Result<u32> {
    let mut seeds = found(target.name)?;
    seeds.extend((target.seeds)());
    for input in &seeds {
        attempt(target, input, last)?;
    }
    let mut mutator = Mutator::new(limits.seed, target.words);
    let began = Instant::now();
    let mut settled = None;
    let mut tried = 0;
    while tried < limits.inputs && limits.time.is_none_or(|time| began.elapsed() < time) {
        attempt(target, &mutator.next(&seeds), last)?;
        tried += 1;
        if settled.is_none() && tried >= limits.inputs.min(20_000) / 4 {
            settled = Some(resident()?);
        }
    }
    let growth = resident()?.saturating_sub(settled.unwrap_or(u64::MAX));
    ensure!(growth < GROWTH, "{growth} bytes more are in use after {tried} inputs");
    Ok(tried)
}

fn attempt(target: Target, input: &[u8], last: Option<&Path>) -> Result<()> {
    if let Some(last) = last {
        fs::write(last, input).with_context(|| last.display().to_string())?;
    }
    (target.run)(input);
    Ok(())
}

/// What has broken a target once.
fn found(name: &str) -> Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    files.iter().map(|file| Ok(fs::read(file)?)).collect()
}

/// Memory in use, bytes (proc(5), `statm`).
fn resident() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).context("statm has a second number")?;
    Ok(pages.parse::<u64>()? * 4096)
}
