//! The function inside of which instructions are counted.

use std::hint::black_box;

use anyhow::Result;

use crate::cases::{Case, Work};

/// The name of [`measured_section`] as Callgrind has to look for it.
pub(crate) const SECTION: &str = "*measured_section*";
/// Units that run before the counting: what is made at the first use is not counted.
const WARM_UP: u32 = 16;

/// Prepares a case, warms it up and runs its units where they are counted.
pub(crate) fn run(case: &Case) -> Result<()> {
    let mut work = (case.prepare)()?;
    work(WARM_UP);
    measured_section(&mut work, case.units);
    Ok(())
}

/// Nothing else may have this name, closures included: each entry would end the counting.
#[inline(never)]
fn measured_section(work: &mut Work, units: u32) {
    work(units);
    black_box(units);
}
