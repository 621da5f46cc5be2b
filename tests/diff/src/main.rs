//! Plays the cases against Envoy: the recorded answers have to be its own.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use weft_diff::{Kind, Record, Topic, observe};

const USAGE: &str = "usage: weft-diff [--update] ENVOY [TOPIC...]";

#[tokio::main]
async fn main() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let update = words.first().is_some_and(|word| word == "--update");
    if update {
        words.remove(0);
    }
    let envoy = (!words.is_empty()).then(|| words.remove(0)).context(USAGE)?;
    let envoy = Kind::Envoy(PathBuf::from(envoy));
    let topics = if words.is_empty() { Topic::names()? } else { words };
    let mut wrong = Vec::new();
    let mut count = 0;
    for name in topics {
        let topic = Topic::load(&name)?;
        let seen = observe(&envoy, &topic).await.with_context(|| name.clone())?;
        count += seen.cases.len();
        if update {
            seen.save(&name)?;
        }
        wrong.extend(otherwise(&name, &seen)?);
    }
    if !wrong.is_empty() {
        bail!("Envoy answers otherwise than recorded:\n\n{}", wrong.join("\n"));
    }
    show(&format!("{count} cases answered by Envoy as recorded"));
    Ok(())
}

/// The cases that Envoy answers otherwise than recorded.
fn otherwise(topic: &str, seen: &Record) -> Result<Vec<String>> {
    let recorded = Record::load(topic)?;
    let differing = seen.cases.iter().filter(|(case, seen)| recorded.case(case) != Some(seen));
    Ok(differing.map(|(case, seen)| format!("{topic}: {case}\n{seen}")).collect())
}

#[allow(clippy::print_stdout, reason = "the result of a command-line program")]
fn show(text: &str) {
    println!("{text}");
}
