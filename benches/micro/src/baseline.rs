//! What was counted before, and what has changed since.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// By how much a count may differ before it is worth a word.
const TOLERANCE: f64 = 0.03;

/// Instructions for one unit of each case.
#[derive(Debug)]
pub(crate) struct Baseline(BTreeMap<String, f64>);

/// What a comparison found.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Worth knowing.
    pub(crate) notes: Vec<String>,
    /// Not to be accepted.
    pub(crate) failures: Vec<String>,
}

impl Baseline {
    pub(crate) fn new(counts: BTreeMap<String, f64>) -> Self {
        Self(counts)
    }

    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("{}: make bench-micro MICRO=renew", file.display()))?;
        Ok(Self(serde_json::from_str(&text).with_context(|| file.display().to_string())?))
    }

    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.0)?;
        fs::write(file, text + "\n").with_context(|| format!("writing {}", file.display()))
    }

    /// Compares the counts of those cases whose name contains `only`.
    pub(crate) fn compare(&self, counts: &BTreeMap<String, f64>, only: &str) -> Comparison {
        let mut comparison = Comparison::default();
        for (name, now) in counts {
            let Some(before) = self.0.get(name) else {
                comparison
                    .failures
                    .push(format!("{name}: {now} instructions, not in the baseline"));
                continue;
            };
            let change = (now - before) / before;
            let text = format!(
                "{name}: {now} instructions, {before} in the baseline ({:+.1} %)",
                change * 100.0
            );
            if change > TOLERANCE {
                comparison.failures.push(text);
            } else if change < -TOLERANCE {
                let renew = "renew the baseline to keep it: make bench-micro MICRO=renew";
                comparison.notes.push(format!("{text}; {renew}"));
            }
        }
        let gone = self.0.keys().filter(|name| name.contains(only) && !counts.contains_key(*name));
        comparison
            .failures
            .extend(gone.map(|name| format!("{name}: in the baseline, but no longer a case")));
        comparison
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[(&str, f64)]) -> BTreeMap<String, f64> {
        values.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn compare(before: &[(&str, f64)], now: &[(&str, f64)]) -> Comparison {
        Baseline::new(counts(before)).compare(&counts(now), "")
    }

    #[test]
    fn a_small_change_is_not_worth_a_word() {
        for now in [97.1, 100.0, 102.9] {
            let comparison = compare(&[("a", 100.0)], &[("a", now)]);
            assert!(comparison.notes.is_empty() && comparison.failures.is_empty(), "{now}");
        }
    }

    #[test]
    fn a_rise_fails_with_its_name_and_both_numbers() {
        let comparison = compare(&[("a", 100.0), ("b", 5.0)], &[("a", 103.5), ("b", 5.0)]);
        assert_eq!(comparison.failures, ["a: 103.5 instructions, 100 in the baseline (+3.5 %)"]);
    }

    #[test]
    fn a_fall_passes_and_asks_for_a_new_baseline() {
        let comparison = compare(&[("a", 100.0)], &[("a", 90.0)]);
        assert!(comparison.failures.is_empty());
        assert!(
            comparison.notes[0].starts_with("a: 90 instructions, 100 in the baseline (-10.0 %)")
        );
        assert!(comparison.notes[0].contains("make bench-micro MICRO=renew"));
    }

    #[test]
    fn a_case_without_a_baseline_fails_and_so_does_one_that_is_gone() {
        let comparison = compare(&[("old", 1.0)], &[("new", 1.0)]);
        assert_eq!(comparison.failures.len(), 2, "{:?}", comparison.failures);
    }

    #[test]
    fn cases_that_were_not_asked_for_are_not_missed() {
        let before = Baseline::new(counts(&[("route_first", 1.0), ("pick", 1.0)]));
        assert!(before.compare(&counts(&[("pick", 1.0)]), "pick").failures.is_empty());
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("baseline.json");
        Baseline::new(counts(&[("a", 12.5)])).write(&file).unwrap();
        assert_eq!(Baseline::read(&file).unwrap().0, counts(&[("a", 12.5)]));
    }
}
