//! `response-rewrite`: another status, other headers, another body.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, ETAG, LAST_MODIFIED};
use http::response::Parts as ResponseHead;
use http::{HeaderName, HeaderValue, StatusCode};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::{Map, Value};
use weft_apisix::Rule;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Answer;
use crate::plugin::{Changing, Plugin};
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
            "max_resp_body_size": {"type": "integer", "minimum": 1, "default": 67108864},
            "body": {"type": "string"},
            "body_base64": {"type": "boolean", "default": false},
            "status_code": {"type": "integer", "minimum": 200, "maximum": 598},
            "vars": {"type": "array"},
            "filters": {"type": "array", "minItems": 1, "items": {
                "type": "object",
                "required": ["regex", "replace"],
                "properties": {
                    "regex": {"type": "string", "minLength": 1},
                    "scope": {"type": "string", "enum": ["once", "global"], "default": "once"},
                    "replace": {"type": "string"},
                    "options": {"type": "string", "default": "jo"}
                }
            }}
        },
        "dependencies": {
            "body": {"not": {"required": ["filters"]}},
            "filters": {"not": {"required": ["body"]}}
        }
    }"#,
    compile,
)
.with_io(|settings| settings.get("body").or_else(|| settings.get("filters")).is_some());

#[derive(Debug)]
struct ResponseRewrite {
    status: Option<StatusCode>,
    add: Vec<(HeaderName, Template)>,
    set: Vec<(HeaderName, Template)>,
    remove: Vec<HeaderName>,
    vars: Option<Rule>,
    content: Content,
    /// Bytes of a body that `filters` look at.
    most: usize,
}

/// What becomes of the body.
#[derive(Debug)]
enum Content {
    Kept,
    Replaced(Bytes),
    Filtered(Vec<Filter>),
}

#[derive(Debug)]
struct Filter {
    regex: Regex,
    replace: String,
    all: bool,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        status_code: Option<u16>,
        headers: Option<Map<String, Value>>,
        vars: Option<Value>,
        body: Option<String>,
        body_base64: bool,
        #[serde(default)]
        filters: Vec<RawFilter>,
        max_resp_body_size: usize,
    }
    #[derive(Deserialize)]
    struct RawFilter {
        regex: String,
        scope: String,
        replace: String,
        options: String,
    }
    let raw: Raw = decode(settings)?;
    let status = raw.status_code.map(StatusCode::from_u16).transpose();
    let vars = raw.vars.as_ref().map(Rule::compile).transpose();
    let filter = |filter: &RawFilter| {
        let regex = RegexBuilder::new(&filter.regex)
            .case_insensitive(filter.options.contains('i'))
            .multi_line(filter.options.contains('m'))
            .dot_matches_new_line(filter.options.contains('s'))
            .build();
        let wrong = |error| format!("regex \"{}\" validation failed: {error}", filter.regex);
        // `$1x` is the first group and an x.
        let groups = Regex::new(r"\$(\d+)").map_err(|error| error.to_string())?;
        let replace = groups.replace_all(&filter.replace, "$${$1}").into_owned();
        let all = filter.scope == "global";
        Ok::<_, String>(Filter { regex: regex.map_err(wrong)?, replace, all })
    };
    let content = match raw.body {
        Some(body) if raw.body_base64 => {
            let decoded = BASE64_STANDARD.decode(&body).ok().filter(|body| !body.is_empty());
            Content::Replaced(decoded.ok_or("invalid base64 content")?.into())
        }
        None if raw.body_base64 => return Err("invalid base64 content".into()),
        Some(body) => Content::Replaced(body.into()),
        None if raw.filters.is_empty() => Content::Kept,
        None => Content::Filtered(raw.filters.iter().map(filter).collect::<Result<_, _>>()?),
    };
    let mut plugin = ResponseRewrite {
        content,
        most: raw.max_resp_body_size,
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
        if !matches!(self.content, Content::Kept) {
            for name in [CONTENT_ENCODING, LAST_MODIFIED, ETAG] {
                head.headers.remove(name);
            }
            answer.keep(Matched);
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

    fn body<'a>(&'a self, answer: &'a mut Answer<'_>) -> Option<Changing<'a>> {
        answer.kept::<Matched>()?;
        Some(Box::pin(async move {
            let body = &mut answer.cx.io().response;
            match &self.content {
                Content::Kept => {}
                Content::Replaced(content) => body.replace(content.clone()),
                Content::Filtered(filters) => {
                    // A larger body passes as it is; APISIX would cut it.
                    let Ok(content) = body.read(self.most).await else { return };
                    let Ok(text) = std::str::from_utf8(&content) else { return };
                    let changed = filters.iter().fold(Cow::Borrowed(text), |text, filter| {
                        let replace = filter.replace.as_str();
                        let times = usize::from(!filter.all);
                        Cow::Owned(filter.regex.replacen(&text, times, replace).into_owned())
                    });
                    body.replace(changed.into_owned().into());
                }
            }
        }))
    }
}

/// The conditions held.
struct Matched;

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

    #[tokio::test]
    async fn bodies_are_replaced_and_filtered() {
        for (settings, body) in [
            (json!({"body": "other"}), "other"),
            (json!({"body": "b3RoZXI=", "body_base64": true}), "other"),
            (json!({"filters": [{"regex": "l", "replace": "L"}]}), "heLlo world"),
            (
                json!({"filters": [{"regex": "L", "replace": "-", "scope": "global", "options": "i"}]}),
                "he--o wor-d",
            ),
            (json!({"filters": [{"regex": "(w)o", "replace": "$1"}]}), "hello wrld"),
            (json!({"body": "other", "vars": [["status", "==", 500]]}), "hello world"),
        ] {
            let mut outcome = Case::new("response-rewrite", settings.clone()).get("/").run();
            let reply = outcome.respond_body(200, &[("etag", "x")], "hello world").await;
            assert_eq!(reply.text(), body, "{settings}");
            assert_eq!(reply.header("etag").is_some(), settings.get("vars").is_some());
        }
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
        let error = refused("response-rewrite", json!({"body": "~", "body_base64": true}));
        assert_eq!(error, "invalid base64 content");
        let error =
            refused("response-rewrite", json!({"filters": [{"regex": "(", "replace": ""}]}));
        assert!(error.starts_with("regex \"(\" validation failed: "), "{error}");
    }
}
