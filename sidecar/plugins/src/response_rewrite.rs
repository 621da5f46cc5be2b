//! `response-rewrite`: another status, other headers.

use std::sync::Arc;

use http::response::Parts as ResponseHead;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use weft_apisix::Rule;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Answer;
use crate::plugin::Plugin;
use crate::template::Template;

pub(crate) const DEFINITION: Definition = Definition::new(
    "response-rewrite",
    899,
    r#"{
        "type": "object",
        "properties": {
            "headers": {"anyOf": [
                {
                    "type": "object", "minProperties": 1,
                    "patternProperties": {
                        "^[^:]+$": {"oneOf": [{"type": "string"}, {"type": "number"}]}
                    }
                },
                {"properties": {
                    "add": {
                        "type": "array", "minItems": 1,
                        "items": {"type": "string", "pattern": "^[^:]+:[^:]*[^/]$"}
                    },
                    "set": {
                        "type": "object", "minProperties": 1,
                        "patternProperties": {
                            "^[^:]+$": {"oneOf": [{"type": "string"}, {"type": "number"}]}
                        }
                    },
                    "remove": {
                        "type": "array", "minItems": 1,
                        "items": {"type": "string", "pattern": "^[^:]+$"}
                    }
                }}
            ]},
            "status_code": {"type": "integer", "minimum": 200, "maximum": 598},
            "vars": {"type": "array"}
        },
        "additionalProperties": false
    }"#,
    compile,
);

#[derive(Debug)]
struct ResponseRewrite {
    status: Option<StatusCode>,
    add: Vec<(HeaderName, Template)>,
    set: Vec<(HeaderName, Template)>,
    remove: Vec<HeaderName>,
    vars: Option<Rule>,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        status_code: Option<u16>,
        headers: Option<Map<String, Value>>,
        vars: Option<Value>,
    }
    let raw: Raw = decode(settings)?;
    let status = raw.status_code.map(StatusCode::from_u16).transpose();
    let vars = raw.vars.as_ref().map(Rule::compile).transpose();
    let mut plugin = ResponseRewrite {
        status: status.map_err(|error| error.to_string())?,
        add: Vec::new(),
        set: Vec::new(),
        remove: Vec::new(),
        vars: vars.map_err(|error| format!("failed to validate the 'vars' expression: {error}"))?,
    };
    plugin.read_headers(&raw.headers.unwrap_or_default())?;
    Ok(Arc::new(plugin))
}

/// A header's name.
pub(crate) fn header_name(name: &str) -> Result<HeaderName, String> {
    name.trim().parse().map_err(|_| format!("invalid header name: {name}"))
}

/// A text or a number.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl ResponseRewrite {
    /// `add`, `set` and `remove`, or names with values to set.
    fn read_headers(&mut self, headers: &Map<String, Value>) -> Result<(), String> {
        let is_table = |name: &str| {
            headers.get(name).is_some_and(|value| value.is_object() || value.is_array())
        };
        if !["add", "set", "remove"].into_iter().any(is_table) {
            self.set = values(headers)?;
            return Ok(());
        }
        for line in headers.get("add").and_then(Value::as_array).into_iter().flatten() {
            let line = line.as_str().unwrap_or_default();
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            self.add.push((header_name(name)?, Template::parse(value.trim_start())));
        }
        if let Some(set) = headers.get("set").and_then(Value::as_object) {
            self.set = values(set)?;
        }
        for name in headers.get("remove").and_then(Value::as_array).into_iter().flatten() {
            self.remove.push(header_name(name.as_str().unwrap_or_default())?);
        }
        Ok(())
    }
}

fn values(fields: &Map<String, Value>) -> Result<Vec<(HeaderName, Template)>, String> {
    let fields = fields.iter();
    fields.map(|(name, value)| Ok((header_name(name)?, Template::parse(&text(value))))).collect()
}

impl Plugin for ResponseRewrite {
    fn reads_request_late(&self) -> bool {
        let templates = self.add.iter().chain(&self.set);
        self.vars.is_some() || templates.into_iter().any(|(_, value)| value.fixed().is_none())
    }

    fn header_filter(&self, answer: &mut Answer<'_>, head: &mut ResponseHead) {
        if self.vars.as_ref().is_some_and(|vars| !vars.holds(&answer.variables(head))) {
            return;
        }
        if let Some(status) = self.status {
            head.status = status;
        }
        let value = |template: &Template, head: &ResponseHead| {
            HeaderValue::from_str(&template.render(&answer.variables(head))).ok()
        };
        for (name, template) in &self.add {
            if let Some(value) = value(template, head) {
                head.headers.append(name, value);
            }
        }
        for (name, template) in &self.set {
            if let Some(value) = value(template, head) {
                head.headers.insert(name, value);
            }
        }
        for name in &self.remove {
            head.headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Case, refused};

    #[test]
    fn status_and_headers_are_changed() {
        let settings = json!({
            "status_code": 202,
            "headers": {
                "add": ["x-a: 1", "x-from: $remote_addr"],
                "set": {"x-b": 2, "x-uri": "$uri"},
                "remove": ["x-c"],
            },
        });
        let mut outcome = Case::new("response-rewrite", settings).get("/p").run();
        let reply = outcome.respond_with(200, &[("x-a", "0"), ("x-c", "gone")]);
        assert_eq!(reply.status(), 202);
        assert_eq!(reply.all("x-a"), ["0", "1"]);
        assert_eq!(reply.header("x-from"), Some("192.0.2.1"));
        assert_eq!(reply.header("x-b"), Some("2"));
        assert_eq!(reply.header("x-uri"), Some("/p"));
        assert_eq!(reply.header("x-c"), None);
    }

    #[test]
    fn conditions_read_the_response() {
        let settings = json!({"headers": {"x-a": "1"}, "vars": [["status", "==", 500]]});
        let mut outcome = Case::new("response-rewrite", settings).get("/").run();
        assert_eq!(outcome.respond(500).header("x-a"), Some("1"));
        assert_eq!(outcome.respond(200).header("x-a"), None);
    }

    #[test]
    fn wrong_settings_are_refused() {
        let error = refused("response-rewrite", json!({"status_code": 599}));
        assert_eq!(
            error,
            "property \"status_code\" validation failed: expected 599 to be at most 598"
        );
        let error = refused("response-rewrite", json!({"vars": [["a", "x", "b"]]}));
        assert_eq!(error, "failed to validate the 'vars' expression: invalid operator 'x'");
    }
}
