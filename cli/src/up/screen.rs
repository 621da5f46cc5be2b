//! What the person sees: progress while it runs, a table at the end.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use super::checks::Verdict;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    started: Instant,
}

impl Screen {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// A line of progress with the time since the start.
    pub(crate) fn progress(&self, text: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        print(&format!("[{seconds:6.1} s] {text}\n"));
    }

    /// Lines without a time.
    pub(crate) fn note(&self, text: &str) {
        print(&format!("{text}\n"));
    }

    /// The claims, each with what showed it.
    pub(crate) fn table(&self, verdicts: &[Verdict]) {
        print(&format!("\n{}\n", table(verdicts, self.started.elapsed())));
    }
}

fn table(verdicts: &[Verdict], took: Duration) -> String {
    let width = verdicts.iter().map(|verdict| verdict.claim.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for verdict in verdicts {
        let (mark, shown) = match &verdict.result {
            Ok(evidence) => ("ok  ", evidence.clone()),
            Err(error) => ("FAIL", format!("{error:#}")),
        };
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {mark}  {:width$}  {shown}", verdict.claim);
    }
    let held = verdicts.iter().filter(|verdict| verdict.holds()).count();
    let _ = write!(text, "  {held} of {} claims hold, {:.0} s", verdicts.len(), took.as_secs_f64());
    text
}

fn print(text: &str) {
    let mut output = std::io::stdout().lock();
    // Nobody watches any more, but the checks go on.
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_claim_stands_out_with_its_reason() {
        let verdicts = [
            Verdict { claim: "short", result: Ok("fine".to_owned()) },
            Verdict {
                claim: "a longer claim",
                result: Err(anyhow::anyhow!("why").context("what")),
            },
        ];
        assert_eq!(
            table(&verdicts, Duration::from_secs(61)),
            "  ok    short           fine\n  FAIL  a longer claim  what: why\n  1 of 2 claims hold, 61 s"
        );
    }
}
