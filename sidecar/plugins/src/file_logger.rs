//! `file-logger`: an entry for each request, in a file of JSON lines.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use weft_apisix::Rule;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Ended;
use crate::logging::{BatchSettings, Batches, Deliver, Format};
use crate::plugin::Plugin;

pub(crate) const DEFINITION: Definition = Definition::new(
    "file-logger",
    399,
    r#"{
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "log_format": {"type": "object"},
            "match": {"type": "array", "maxItems": 20, "items": {"type": "array"}}
        },
        "additionalProperties": false
    }"#,
    compile,
)
.with_metadata(
    r#"{
        "type": "object",
        "properties": {"path": {"type": "string"}, "log_format": {"type": "object"}}
    }"#,
);

#[derive(Debug)]
struct FileLogger {
    format: Format,
    /// One of them has to hold.
    rules: Vec<Rule>,
    batches: Arc<Batches>,
}

/// A file, opened anew for each batch, so that it can be moved away.
#[derive(Debug)]
struct File(PathBuf);

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        path: Option<String>,
        #[serde(rename = "match", default)]
        rules: Vec<Value>,
    }
    let raw: Raw = decode(settings)?;
    let rules = raw.rules.iter().map(Rule::compile).collect::<Result<_, _>>();
    let of_metadata = || context.metadata["path"].as_str().map(str::to_owned);
    // APISIX refuses a missing path when it logs.
    let path = raw.path.or_else(of_metadata).unwrap_or_default();
    Ok(Arc::new(FileLogger {
        format: Format::new(settings, context.metadata),
        rules: rules
            .map_err(|error| format!("failed to validate the 'match' expression: {error}"))?,
        batches: context.state(&path.clone().into(), || {
            Batches::new(BatchSettings::at_once(), File(path.into()))
        }),
    }))
}

impl Plugin for FileLogger {
    fn logs(&self) -> bool {
        true
    }

    fn log(&self, ended: &Ended) {
        if self.rules.is_empty() || self.rules.iter().any(|rule| rule.holds(ended)) {
            self.batches.add(self.format.entry(ended));
        }
    }
}

impl Deliver for File {
    fn deliver(&self, entries: &[Value]) -> Result<(), String> {
        let file = OpenOptions::new().append(true).create(true).open(&self.0);
        let lines: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
        file.and_then(|mut file| file.write_all(lines.as_bytes()))
            .map_err(|error| format!("{}: {error}", self.0.display()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Case, refused};

    /// The lines of the file when the logger has ended.
    fn lines(settings: Value, uris: &[&str]) -> Vec<Value> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut settings = settings;
        settings["path"] = path.to_str().expect("text").into();
        let case = Case::new("file-logger", settings);
        for uri in uris {
            case.again().get(uri).header("x-a", "1").run().respond_with(201, &[("x-b", "2")]);
        }
        // Without the chain, the queue ends.
        drop(case);
        let mut seen = Vec::new();
        while seen.len() < uris.iter().filter(|uri| !uri.contains("skip")).count() {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            seen = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            std::thread::yield_now();
        }
        seen
    }

    #[test]
    fn each_request_is_a_line() {
        let seen = lines(json!({}), &["/p?q=1"]);
        let entry = &seen[0];
        for (pointer, value) in [
            ("/request/uri", json!("/p?q=1")),
            ("/request/url", json!("http://shop:9080/p?q=1")),
            ("/request/method", json!("GET")),
            ("/request/headers/x-a", json!("1")),
            ("/request/querystring/q", json!("1")),
            ("/response/status", json!(201)),
            ("/response/headers/x-b", json!("2")),
            ("/client_ip", json!("192.0.2.1")),
        ] {
            assert_eq!(entry.pointer(pointer), Some(&value), "{pointer} of {entry}");
        }
        assert!(entry["latency"].is_f64() && entry["start_time"].is_u64(), "{entry}");
    }

    #[test]
    fn format_and_conditions_are_settings() {
        let settings = json!({
            "log_format": {"what": "$request_method $uri", "got": "$status"},
            "match": [[["uri", "!", "~~", "skip"]]],
        });
        let seen = lines(settings, &["/skip", "/p"]);
        assert_eq!(seen, [json!({"what": "GET /p", "got": "201"})]);
        let error = refused("file-logger", json!({"match": [[["a", "x", "b"]]]}));
        assert_eq!(error, "failed to validate the 'match' expression: invalid operator 'x'");
    }
}
