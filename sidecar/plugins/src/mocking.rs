//! `mocking`: an answer without an upstream, given or made up from a schema.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Phase, Plugin, Step, Waiting};
use crate::reply::Reply;
use crate::response_rewrite::{header_name, text};
use crate::template::Template;

pub(crate) const DEFINITION: Definition = Definition::new(
    "mocking",
    10900,
    r#"{
        "type": "object",
        "properties": {
            "delay": {"type": "integer", "default": 0},
            "response_status": {"type": "integer", "minimum": 100, "default": 200},
            "content_type": {"type": "string", "default": "application/json;charset=utf8"},
            "response_example": {"type": "string"},
            "response_schema": {"type": "object"},
            "with_mock_header": {"type": "boolean", "default": true},
            "response_headers": {
                "type": "object", "minProperties": 1,
                "patternProperties": {
                    "^[^:]+$": {"oneOf": [{"type": "string"}, {"type": "number"}]}
                }
            }
        },
        "anyOf": [{"required": ["response_example"]}, {"required": ["response_schema"]}]
    }"#,
    compile,
);

const MOCK_BY: HeaderName = HeaderName::from_static("x-mock-by");
const TYPES: [&str; 5] =
    ["application/xml", "application/json", "text/plain", "text/html", "text/xml"];

#[derive(Debug)]
struct Mocking {
    delay: Duration,
    status: u16,
    content_type: String,
    content: Content,
    marks: bool,
    headers: Vec<(HeaderName, Template)>,
}

#[derive(Debug)]
enum Content {
    Example(Template),
    Json(Value),
    Xml(Value),
    Nothing,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        delay: i64,
        response_status: u16,
        content_type: String,
        response_example: Option<String>,
        response_schema: Option<Value>,
        with_mock_header: bool,
        response_headers: Option<Map<String, Value>>,
    }
    let raw: Raw = decode(settings)?;
    let kind = raw.content_type.split(';').next().unwrap_or_default().trim();
    if !TYPES.contains(&kind) {
        return Err("unsupported content type!".into());
    }
    let content = match (raw.response_example, raw.response_schema) {
        (Some(example), _) => Content::Example(Template::parse(&example)),
        (None, Some(schema)) => match kind {
            "application/json" | "text/plain" => Content::Json(schema),
            "application/xml" | "text/xml" => Content::Xml(schema),
            _ => Content::Nothing,
        },
        (None, None) => Content::Nothing,
    };
    let headers = raw.response_headers.unwrap_or_default();
    let headers =
        headers.iter().map(|(name, value)| Ok((header_name(name)?, Template::parse(&text(value)))));
    Ok(Arc::new(Mocking {
        delay: Duration::from_secs(u64::try_from(raw.delay).unwrap_or(0)),
        status: raw.response_status,
        content,
        marks: raw.with_mock_header,
        headers: headers.collect::<Result<_, String>>()?,
        content_type: raw.content_type,
    }))
}

impl Mocking {
    fn reply(&self, exchange: &Exchange<'_>) -> Step {
        let variables = exchange.variables();
        let body = match &self.content {
            Content::Example(example) => example.render(&variables),
            Content::Json(schema) => object(schema).to_string(),
            Content::Xml(schema) => xml("data", &object(schema)),
            Content::Nothing => String::new(),
        };
        let mut reply = Reply::text(self.status, body).with(CONTENT_TYPE, &self.content_type);
        if self.marks {
            reply = reply.with(MOCK_BY, concat!("Weft/", env!("CARGO_PKG_VERSION")));
        }
        for (name, value) in &self.headers {
            reply = reply.with(name.clone(), value.render(&variables));
        }
        reply.into()
    }
}

/// An object with the properties of a schema.
fn object(schema: &Value) -> Value {
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties.map(|(name, schema)| (name.clone(), sample(schema))).collect::<Map<_, _>>().into()
}

/// A value of a schema: its example, else chance.
fn sample(schema: &Value) -> Value {
    let example = &schema["example"];
    match schema["type"].as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "object" => object(schema),
        "array" => {
            let Some(items) = schema.get("items") else { return Value::Null };
            std::iter::repeat_with(|| sample(items)).take(fastrand::usize(1..=3)).collect()
        }
        "string" if example.is_string() => example.clone(),
        "string" => {
            let letters = std::iter::repeat_with(fastrand::lowercase);
            letters.take(fastrand::usize(1..=10)).collect::<String>().into()
        }
        "number" if example.is_number() => example.clone(),
        "number" => json!(fastrand::f64() * 10_000.0),
        "integer" => match example.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number of an example")]
            Some(number) => json!(number.floor() as i64),
            None => json!(fastrand::u32(1..=10_000)),
        },
        "boolean" if example.is_boolean() => example.clone(),
        "boolean" => json!(fastrand::bool()),
        _ => Value::Null,
    }
}

fn xml(name: &str, value: &Value) -> String {
    let content = match value {
        Value::Array(items) => return items.iter().map(|item| xml(name, item)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, field)| xml(name, field)).collect(),
        other => text(other),
    };
    format!("<{name}>{content}</{name}>")
}

impl Plugin for Mocking {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        if self.delay.is_zero() { self.reply(exchange) } else { Step::Wait }
    }

    fn wait<'a>(&'a self, _: Phase, exchange: &'a mut Exchange<'_>) -> Waiting<'a> {
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            self.reply(exchange)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Case, refused};

    #[tokio::test(start_paused = true)]
    async fn an_example_is_answered() {
        let settings = json!({
            "delay": 1, "response_status": 201, "content_type": "text/plain",
            "response_example": "for $remote_addr", "response_headers": {"x-a": "$uri"},
        });
        let reply = Case::new("mocking", settings).get("/p").run_waiting().await.replies(201);
        assert_eq!(reply.text(), "for 192.0.2.1");
        assert_eq!(reply.header("content-type"), Some("text/plain"));
        assert_eq!(reply.header("x-a"), Some("/p"));
        assert!(reply.header("x-mock-by").is_some());
    }

    #[test]
    fn a_schema_is_filled() {
        let schema = json!({"properties": {
            "name": {"type": "string", "example": "jack"},
            "age": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "boolean", "example": true}},
        }});
        let settings = json!({"response_schema": schema, "with_mock_header": false});
        let reply = Case::new("mocking", settings).get("/").run().replies(200);
        let body: Value = serde_json::from_str(reply.text()).expect("JSON");
        assert_eq!((&body["name"], &body["tags"][0]), (&json!("jack"), &json!(true)));
        assert!(body["age"].as_u64().is_some_and(|age| age > 0));
        assert_eq!(reply.header("x-mock-by"), None);
        let schema = json!({"properties": {"a": {"type": "string", "example": "b"}}});
        let settings = json!({"response_schema": schema, "content_type": "text/xml"});
        let reply = Case::new("mocking", settings).get("/").run().replies(200);
        assert_eq!(reply.text(), "<data><a>b</a></data>");
    }

    #[test]
    fn other_types_are_refused() {
        let settings = json!({"response_example": "", "content_type": "image/png"});
        assert_eq!(refused("mocking", settings), "unsupported content type!");
    }
}
