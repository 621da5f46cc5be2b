//! Callgrind started and read.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::measured::SECTION;

/// Chooses glibc's plainest string functions: which ones it takes, and so how many instructions a
/// copy has, must not depend on the machine.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-ERMS,-FSRM,\
    -BMI2,-LZCNT,-MOVBE,-RTM,-SSE4_2,-SSE4_1,-SSSE3,-Fast_Unaligned_Copy";

/// Says why counts on this machine can't be compared with those of others, if so.
pub(crate) fn check_machine() -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    ensure!(
        std::is_x86_feature_detected!("avx2"),
        "the baseline is of machines with AVX2, which libraries choose by themselves"
    );
    ensure!(cfg!(target_arch = "x86_64"), "the baseline is of x86-64");
    Ok(())
}

/// Runs a case and returns the instructions of its measured section.
pub(crate) fn count(case: &str, folder: &Path) -> Result<u64> {
    let file = folder.join(format!("{case}.out"));
    let program = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={SECTION}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["run", case])
        // The environment stands on the stack and in loops over it.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GLIBC_TUNABLES", TUNABLES)
        .stdin(Stdio::null())
        .output()
        .context("valgrind can't be started; the Debian package has the same name")?;
    ensure!(
        output.status.success(),
        "{case} ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let written = fs::read_to_string(&file).context("what Callgrind wrote")?;
    let total = total(&written).with_context(|| format!("no total for {case}"))?;
    ensure!(total > 0, "nothing was counted for {case}: is {SECTION} in the program's symbols?");
    Ok(total)
}

/// The sum at the end of a Callgrind profile.
fn total(profile: &str) -> Option<u64> {
    let parts = profile.lines().filter_map(|line| line.strip_prefix("totals:"));
    // One part for each dump; there is only the last here.
    parts.filter_map(|total| total.trim().parse().ok()).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_last_line_of_its_kind() {
        let profile = "events: Ir\nsummary: 7\n\nfn=(1) a\n1 7\n\ntotals: 7\n";
        assert_eq!(total(profile), Some(7));
        assert_eq!(total("events: Ir\n"), None);
    }
}
