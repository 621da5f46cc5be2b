//! What was seen of each case, as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::case::folder;
use crate::http1::Message;

/// What a topic's cases showed: a text by the case's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The cases, in their order.
    pub cases: Vec<(String, String)>,
}

const HEADING: &str = "=== ";

impl Record {
    /// What was recorded of a topic.
    ///
    /// # Errors
    /// There is no recording.
    pub fn load(topic: &str) -> Result<Self> {
        let path = path(topic);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("{}: record Envoy's answers with make record-interop", path.display())
        })?;
        let mut cases: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix(HEADING) {
                cases.push((name.to_owned(), String::new()));
            } else if let Some((_, seen)) = cases.last_mut() {
                seen.push_str(line);
                seen.push('\n');
            }
        }
        Ok(Self { cases })
    }

    /// Keeps it as what was recorded of a topic.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self, topic: &str) -> Result<()> {
        let mut text = String::new();
        for (name, seen) in &self.cases {
            let _ = write!(text, "{HEADING}{name}\n{seen}");
        }
        let path = path(topic);
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// What a case showed.
    #[must_use]
    pub fn case(&self, name: &str) -> Option<&str> {
        let found = self.cases.iter().find(|(known, _)| known == name);
        found.map(|(_, seen)| seen.as_str())
    }
}

fn path(topic: &str) -> PathBuf {
    folder("recorded").join(format!("{topic}.txt"))
}

/// A text of one case; ports and other things that change from run to run are replaced.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
    names: BTreeMap<String, &'static str>,
}

impl Page {
    /// `names`: what to write instead of a text.
    pub(crate) fn new(names: BTreeMap<String, &'static str>) -> Self {
        Self { text: String::new(), names }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, line: &str) {
        let mut line = line.trim_end().to_owned();
        for (from, to) in &self.names {
            line = line.replace(from, to);
        }
        self.text.push_str(&line);
        self.text.push('\n');
    }

    /// Adds a message: its headers sorted by name, what changes by itself replaced.
    pub(crate) fn message(&mut self, who: &str, message: &Message) {
        self.line(&format!("{who} {}", message.first));
        self.fields("  ", &message.headers);
        for line in String::from_utf8_lossy(&message.body).lines() {
            self.line(&format!("  | {}", shorten(line)));
        }
        self.fields("  trailer ", &message.trailers);
        let ends = if message.whole { message.framing } else { "cut off" };
        self.line(&format!("  body: {ends}"));
    }

    fn fields(&mut self, before: &str, fields: &[(String, String)]) {
        let mut fields: Vec<_> = fields.to_vec();
        // Only the order of names is free: values of one name keep theirs.
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, value) in fields {
            self.line(&format!("{before}{name}: {}", stable(&name, &value)));
        }
    }

    /// What was written.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// A header's value, or its name where it is another one each time.
fn stable(name: &str, value: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "date" => "<date>".to_owned(),
        "x-envoy-upstream-service-time" => "<milliseconds>".to_owned(),
        "x-request-id" if value.len() == 36 && value.matches('-').count() == 4 => {
            "<uuid>".to_owned()
        }
        // In a retry it is what the tries before have left of it.
        "x-envoy-expected-rq-timeout-ms" => match value.parse::<u64>() {
            Ok(millis) => millis.next_multiple_of(100).to_string(),
            Err(_) => value.to_owned(),
        },
        "traceparent" | "b3" | "x-b3-traceid" | "x-b3-spanid" | "x-b3-parentspanid" => ids(value),
        _ => value.to_owned(),
    }
}

/// The numbers of traces and spans, but for those that the cases send.
fn ids(value: &str) -> String {
    const SENT: [&str; 4] = [
        "0af7651916cd43dd8448eb211c80319c",
        "8448eb211c80319c",
        "b7ad6b7169203331",
        "00000000000000aa",
    ];
    let parts = value.split('-').map(|part| match part.len() {
        16 | 32 if !SENT.contains(&part) => "<id>",
        _ => part,
    });
    parts.collect::<Vec<_>>().join("-")
}

/// A long line by its beginning and its length.
fn shorten(line: &str) -> String {
    if line.len() <= 200 {
        return line.to_owned();
    }
    let start: String = line.chars().take(40).collect();
    format!("{start}... ({} bytes)", line.len())
}
