//! Weft against Envoy's recorded answers.

use std::env;

use anyhow::{Context, Result, bail};
use weft_diff::{Kind, Record, Topic, observe};

/// What follows a case's name where Weft's own answer is kept.
const OURS: &str = " (Weft)";

#[tokio::test]
async fn weft_answers_as_envoy_did() -> Result<()> {
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let mut count = 0;
    for name in chosen()? {
        let topic = Topic::load(&name)?;
        let seen = observe(&Kind::Weft, &topic).await.with_context(|| name.clone())?;
        let mut recorded = Record::load(&name)?;
        if update {
            keep_differences(&topic, &seen, &mut recorded);
            recorded.save(&name)?;
        }
        count += topic.cases.len();
        wrong.extend(compare(&name, &topic, &seen, &recorded));
    }
    if !wrong.is_empty() {
        bail!("{} of {count} cases:\n\n{}", wrong.len(), wrong.join("\n"));
    }
    Ok(())
}

/// All topics, or the one that `WEFT_DIFF_TOPIC` names.
fn chosen() -> Result<Vec<String>> {
    match env::var("WEFT_DIFF_TOPIC") {
        Ok(name) => Ok(vec![name]),
        Err(_) => Topic::names(),
    }
}

fn keep_differences(topic: &Topic, seen: &Record, recorded: &mut Record) {
    recorded.cases.retain(|(name, _)| !name.ends_with(OURS));
    for case in topic.cases.iter().filter(|case| case.differs.is_some()) {
        let ours = seen.case(&case.name).unwrap_or_default().to_owned();
        recorded.cases.push((format!("{}{OURS}", case.name), ours));
    }
}

fn compare(name: &str, topic: &Topic, seen: &Record, recorded: &Record) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in &topic.cases {
        let ours = seen.case(&case.name).unwrap_or_default();
        let envoys = recorded.case(&case.name).unwrap_or("(nothing is recorded)\n");
        let expected = match &case.differs {
            None => envoys,
            Some(_) if ours == envoys => {
                wrong.push(format!("{name}: {}: no longer differs", case.name));
                continue;
            }
            Some(_) => recorded.case(&format!("{}{OURS}", case.name)).unwrap_or("(nothing)\n"),
        };
        if ours != expected {
            wrong.push(format!("--- {name}: {}\n{}", case.name, difference(expected, ours)));
        }
    }
    wrong
}

/// The lines that only one of two texts has.
fn difference(expected: &str, seen: &str) -> String {
    let mut text = String::new();
    let mut seen_lines: Vec<_> = seen.lines().collect();
    for line in expected.lines() {
        match seen_lines.iter().position(|seen| *seen == line) {
            Some(found) => drop(seen_lines.remove(found)),
            None => text.push_str(&format!("  Envoy: {line}\n")),
        }
    }
    for line in seen_lines {
        text.push_str(&format!("  Weft:  {line}\n"));
    }
    if text.is_empty() { "  the same lines in another order\n".to_owned() } else { text }
}
