//! `request-validation`: JSON schemas that a request's headers and body have to follow.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Map, Value};
use weft_apisix::Schema;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Phase, Plugin, Step, Waiting};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "request-validation",
    2800,
    r#"{
        "type": "object",
        "properties": {
            "header_schema": {"type": "object"},
            "body_schema": {"type": "object"},
            "max_req_body_size": {"type": "integer", "minimum": 1, "default": 67108864},
            "rejected_code": {
                "type": "integer", "minimum": 200, "maximum": 599, "default": 400
            },
            "rejected_msg": {"type": "string", "minLength": 1, "maxLength": 256}
        },
        "anyOf": [{"required": ["header_schema"]}, {"required": ["body_schema"]}]
    }"#,
    compile,
)
.with_io(|settings| settings.get("body_schema").is_some());

#[derive(Debug)]
struct RequestValidation {
    headers: Option<Schema>,
    body: Option<Schema>,
    /// Bytes.
    most: usize,
    code: u16,
    message: Option<String>,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        header_schema: Option<Value>,
        body_schema: Option<Value>,
        max_req_body_size: usize,
        rejected_code: u16,
        rejected_msg: Option<String>,
    }
    let raw: Raw = decode(settings)?;
    Ok(Arc::new(RequestValidation {
        headers: raw.header_schema.map(Schema::compile).transpose()?,
        body: raw.body_schema.map(Schema::compile).transpose()?,
        most: raw.max_req_body_size,
        code: raw.rejected_code,
        message: raw.rejected_msg,
    }))
}

impl RequestValidation {
    /// The configured message, else what is wrong.
    fn refusal(&self, error: Option<String>) -> Step {
        match self.message.clone().or(error) {
            Some(message) => Reply::text(self.code, message).into(),
            None => Reply::status(self.code).into(),
        }
    }

    async fn check_body(&self, schema: &Schema, exchange: &mut Exchange<'_>) -> Step {
        let mut kinds = exchange.head.headers.get_all(CONTENT_TYPE).iter();
        let kind = kinds.next().and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kinds.next().is_some() {
            return self.refusal(None);
        }
        let form = kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded");
        let Ok(content) = exchange.cx.io().request.read(self.most).await else {
            return self.refusal(None);
        };
        if content.is_empty() {
            return self.refusal(None);
        }
        let mut body = if form {
            form_urlencoded::parse(&content)
                .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
                .collect::<Map<_, _>>()
                .into()
        } else {
            match serde_json::from_slice(&content) {
                Ok(body) => body,
                Err(error) => return self.refusal(Some(error.to_string())),
            }
        };
        if let Err(error) = schema.check(&mut body) {
            return self.refusal(Some(error));
        }
        if !form {
            // What was checked is what goes on: others may read the same text differently.
            exchange.cx.io().request.replace(Bytes::from(body.to_string()));
        }
        Step::Continue
    }
}

impl Plugin for RequestValidation {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        if let Some(schema) = &self.headers {
            let headers = exchange.head.headers.iter().map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), Value::from(value))
            });
            let mut headers = Value::from(headers.collect::<Map<_, _>>());
            if let Err(error) = schema.check(&mut headers) {
                return self.refusal(Some(error));
            }
        }
        if self.body.is_some() { Step::Wait } else { Step::Continue }
    }

    fn wait<'a>(&'a self, _: Phase, exchange: &'a mut Exchange<'_>) -> Waiting<'a> {
        Box::pin(async move {
            match &self.body {
                Some(schema) => self.check_body(schema, exchange).await,
                None => Step::Continue,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Case, refused};

    #[test]
    fn headers_follow_their_schema() {
        let schema = json!({"required": ["x-a"], "properties": {"x-a": {"enum": ["1"]}}});
        let settings = json!({"header_schema": schema, "rejected_code": 403});
        let case = Case::new("request-validation", settings);
        case.again().get("/").header("x-a", "1").run().passes();
        let reply = case.again().get("/").run().replies(403);
        assert_eq!(reply.text(), "property \"x-a\" is required");
    }

    #[tokio::test]
    async fn bodies_follow_their_schema_and_get_its_defaults() {
        let schema = json!({
            "type": "object", "required": ["n"],
            "properties": {"n": {"type": "integer"}, "d": {"type": "string", "default": "x"}},
        });
        let case = Case::new("request-validation", json!({"body_schema": schema}));
        let outcome = case.again().method("POST", "/").body("{\"n\": 1}").run_waiting().await;
        outcome.passes();
        let body: Value = serde_json::from_str(&outcome.request_body()).expect("JSON");
        assert_eq!(body, json!({"n": 1, "d": "x"}));
        for (body, message) in [
            ("{}", "property \"n\" is required"),
            (
                "{\"n\":\"1\"}",
                "property \"n\" validation failed: wrong type: expected integer, got string",
            ),
        ] {
            let outcome = case.again().method("POST", "/").body(body).run_waiting().await;
            assert_eq!(outcome.replies(400).text(), message);
        }
        let outcome = case.again().method("POST", "/").body("no JSON").run_waiting().await;
        assert!(outcome.replies(400).text().contains("expected"));
    }

    #[tokio::test]
    async fn forms_are_read_as_well() {
        let schema = json!({"required": ["a"]});
        let settings = json!({"body_schema": schema, "rejected_msg": "no"});
        let case = Case::new("request-validation", settings);
        for (body, passes) in [("a=1&b=2", true), ("b=2", false)] {
            let case = case.again().method("POST", "/").body(body);
            let case = case.header("content-type", "application/x-www-form-urlencoded");
            assert_eq!(case.run_waiting().await.passed(), passes, "{body}");
        }
    }

    #[test]
    fn a_schema_has_to_be_one() {
        let settings = json!({"body_schema": {"pattern": "("}});
        assert!(refused("request-validation", settings).contains("("));
    }
}
