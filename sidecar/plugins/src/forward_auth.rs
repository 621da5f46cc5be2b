//! `forward-auth`: another server decides whether a request may pass.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::callout::Server;
use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Phase, Plugin, Step, Waiting};
use crate::reply::Reply;
use crate::response_rewrite::{header_name, text};
use crate::template::Template;
use crate::variables::{authority, scheme};

pub(crate) const DEFINITION: Definition = Definition::new(
    "forward-auth",
    2002,
    r#"{
        "type": "object",
        "properties": {
            "uri": {"type": "string"},
            "allow_degradation": {"type": "boolean", "default": false},
            "status_on_error": {
                "type": "integer", "minimum": 200, "maximum": 599, "default": 403
            },
            "ssl_verify": {"type": "boolean", "default": true},
            "request_method": {"type": "string", "default": "GET", "enum": ["GET", "POST"]},
            "request_headers": {
                "type": "array", "default": [], "items": {"type": "string"}
            },
            "extra_headers": {
                "type": "object", "minProperties": 1,
                "patternProperties": {
                    "^[^:]+$": {"type": ["string", "number", "boolean"]}
                }
            },
            "upstream_headers": {
                "type": "array", "default": [], "items": {"type": "string"}
            },
            "client_headers": {
                "type": "array", "default": [], "items": {"type": "string"}
            },
            "timeout": {"type": "integer", "minimum": 1, "maximum": 60000, "default": 3000},
            "keepalive": {"type": "boolean", "default": true},
            "keepalive_timeout": {"type": "integer", "minimum": 1000, "default": 60000},
            "keepalive_pool": {"type": "integer", "minimum": 1, "default": 5}
        },
        "required": ["uri"]
    }"#,
    compile,
)
.with_io(|_| true)
.with_callout("uri");

/// The largest body that is shown to the server, bytes.
const LARGEST: usize = 64 << 20;

#[derive(Debug)]
struct ForwardAuth {
    server: Server,
    method: Method,
    request_headers: Vec<HeaderName>,
    extra: Vec<(HeaderName, Template)>,
    upstream_headers: Vec<HeaderName>,
    client_headers: Vec<HeaderName>,
    timeout: Duration,
    allow_degradation: bool,
    status_on_error: u16,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        uri: String,
        allow_degradation: bool,
        status_on_error: u16,
        ssl_verify: bool,
        request_method: String,
        request_headers: Vec<String>,
        #[serde(default)]
        extra_headers: Map<String, Value>,
        upstream_headers: Vec<String>,
        client_headers: Vec<String>,
        timeout: u64,
    }
    let raw: Raw = decode(settings)?;
    let names = |names: &[String]| -> Result<Vec<_>, String> {
        names.iter().map(|name| header_name(name)).collect()
    };
    let extra = raw.extra_headers.iter();
    let extra = extra.map(|(name, value)| Ok((header_name(name)?, Template::parse(&text(value)))));
    Ok(Arc::new(ForwardAuth {
        server: Server::parse(&raw.uri, raw.ssl_verify)?,
        method: if raw.request_method == "POST" { Method::POST } else { Method::GET },
        request_headers: names(&raw.request_headers)?,
        extra: extra.collect::<Result<_, String>>()?,
        upstream_headers: names(&raw.upstream_headers)?,
        client_headers: names(&raw.client_headers)?,
        timeout: Duration::from_millis(raw.timeout),
        allow_degradation: raw.allow_degradation,
        status_on_error: raw.status_on_error,
    }))
}

impl ForwardAuth {
    /// What the server is told of the request.
    fn question(&self, exchange: &Exchange<'_>) -> http::request::Builder {
        let head = &exchange.head;
        let mut question = Request::builder().method(self.method.clone());
        let uri = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let told = [
            ("x-forwarded-proto", scheme(head).to_owned()),
            ("x-forwarded-method", head.method.as_str().to_owned()),
            ("x-forwarded-host", authority(head).unwrap_or_default().to_owned()),
            ("x-forwarded-uri", uri.to_owned()),
            ("x-forwarded-for", exchange.cx.remote.ip().to_string()),
        ];
        let extra = self
            .extra
            .iter()
            .map(|(name, value)| (name.as_str(), value.render(&exchange.variables())));
        for (name, value) in told.iter().map(|(name, value)| (*name, value.clone())).chain(extra) {
            if let Ok(value) = HeaderValue::from_str(&value) {
                question = question.header(name, value);
            }
        }
        let body = ["content-type", "content-encoding"].map(HeaderName::from_static);
        let body = body.iter().filter(|_| self.method == Method::POST);
        for name in self.request_headers.iter().chain(body) {
            let set = question.headers_ref().is_some_and(|headers| headers.contains_key(name));
            // The length is that of what is sent.
            if set || *name == http::header::CONTENT_LENGTH {
                continue;
            }
            if let Some(value) = head.headers.get(name) {
                question = question.header(name, value.clone());
            }
        }
        question
    }

    fn judge(&self, exchange: &mut Exchange<'_>, answer: &Response<Bytes>) -> Step {
        if answer.status().as_u16() >= 300 {
            let mut reply = Reply::text(answer.status().as_u16(), answer.body().clone());
            for name in &self.client_headers {
                let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
                if let Some(value) = value {
                    reply = reply.with(name.clone(), value);
                }
            }
            return reply.into();
        }
        for name in &self.upstream_headers {
            // What the server does not say, the client must not say in its place.
            match answer.headers().get(name) {
                Some(value) => exchange.head.headers.insert(name, value.clone()),
                None => exchange.head.headers.remove(name),
            };
        }
        Step::Continue
    }
}

impl Plugin for ForwardAuth {
    fn access(&self, _: &mut Exchange<'_>) -> Step {
        Step::Wait
    }

    fn wait<'a>(&'a self, _: Phase, exchange: &'a mut Exchange<'_>) -> Waiting<'a> {
        Box::pin(async move {
            let question = self.question(exchange);
            let body = if self.method == Method::POST {
                match exchange.cx.io().request.read(LARGEST).await {
                    Ok(body) => body,
                    Err(_) => return Reply::status(self.status_on_error).into(),
                }
            } else {
                Bytes::new()
            };
            match self.server.ask(exchange, question, "", body, self.timeout).await {
                Ok(answer) => self.judge(exchange, &answer),
                Err(error) => {
                    tracing::warn!(%error, "failed to process forward auth");
                    if self.allow_degradation {
                        return Step::Continue;
                    }
                    Reply::status(self.status_on_error).into()
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Case, refused};

    fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response<Bytes> {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(Bytes::from_static(body.as_bytes())).expect("an answer")
    }

    fn case(mut settings: Value) -> Case {
        settings["uri"] = json!("http://auth.test:81/check");
        Case::new("forward-auth", settings)
    }

    #[tokio::test]
    async fn the_server_is_told_of_the_request_and_of_the_headers_that_are_named() {
        let settings = json!({
            "request_headers": ["authorization", "x-forwarded-uri"],
            "extra_headers": {"x-path": "$uri!", "x-number": 1},
        });
        let case =
            case(settings).get("/a?b=1").header("authorization", "me").header("x-other", "1");
        let case = case.header("x-forwarded-uri", "/forged").answered(answer(200, &[], ""));
        let asked = case.asked();
        case.run_waiting().await.passes();
        let asked = asked.borrow();
        let (cluster, question) = &asked[0];
        assert_eq!(cluster, "callout/http://auth.test:81");
        assert_eq!((question.method().as_str(), question.uri().path()), ("GET", "/check"));
        let header = |name: &str| question.headers().get(name).and_then(|one| one.to_str().ok());
        for (name, value) in [
            ("x-forwarded-method", Some("GET")),
            ("x-forwarded-host", Some("shop:80")),
            ("x-forwarded-uri", Some("/a?b=1")),
            ("x-forwarded-for", Some("192.0.2.1")),
            ("x-path", Some("/a!")),
            ("x-number", Some("1")),
            ("authorization", Some("me")),
            ("x-other", None),
        ] {
            assert_eq!(header(name), value, "{name}");
        }
    }

    #[tokio::test]
    async fn what_the_server_says_goes_on_to_the_upstream() {
        let settings = json!({"upstream_headers": ["x-user", "x-role"]});
        let case = case(settings).get("/").header("x-user", "forged").header("x-role", "forged");
        let outcome = case.answered(answer(200, &[("x-user", "jack")], "")).run_waiting().await;
        assert_eq!((outcome.header("x-user"), outcome.header("x-role")), (Some("jack"), None));
    }

    #[tokio::test]
    async fn a_refusal_goes_back_with_its_body_and_the_headers_that_are_named() {
        let settings = json!({"client_headers": ["location"]});
        let said = answer(302, &[("location", "/login"), ("x-secret", "1")], "go");
        let reply = case(settings).get("/").answered(said).run_waiting().await.replies(302);
        assert_eq!((reply.header("location"), reply.header("x-secret")), (Some("/login"), None));
        assert_eq!(reply.text(), "go");
    }

    #[tokio::test]
    async fn the_body_is_shown_and_still_goes_on() {
        let case = case(json!({"request_method": "POST"})).method("POST", "/").body("text");
        let case = case.answered(answer(200, &[], ""));
        let asked = case.asked();
        let outcome = case.run_waiting().await;
        assert_eq!(asked.borrow()[0].1.body(), "text");
        assert_eq!(outcome.request_body(), "text");
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_refuses_unless_it_is_not_needed() {
        case(json!({})).get("/").run_waiting().await.replies(403);
        case(json!({"status_on_error": 503})).get("/").run_waiting().await.replies(503);
        case(json!({"allow_degradation": true})).get("/").run_waiting().await.passes();
    }

    #[test]
    fn wrong_settings_are_refused() {
        assert_eq!(refused("forward-auth", json!({})), "property \"uri\" is required");
        let error = refused("forward-auth", json!({"uri": "auth"}));
        assert!(error.contains("no address"), "{error}");
    }
}
