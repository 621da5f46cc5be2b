//! `opa`: the Open Policy Agent decides whether a request may pass.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::callout::Server;
use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Phase, Plugin, Step, Waiting};
use crate::reply::Reply;
use crate::response_rewrite::{header_name, text};
use crate::variables::{host, scheme};

pub(crate) const DEFINITION: Definition = Definition::new(
    "opa",
    2001,
    r#"{
        "type": "object",
        "properties": {
            "host": {"type": "string"},
            "ssl_verify": {"type": "boolean", "default": true},
            "policy": {"type": "string"},
            "timeout": {"type": "integer", "minimum": 1, "maximum": 60000, "default": 3000},
            "keepalive": {"type": "boolean", "default": true},
            "send_headers_upstream": {
                "type": "array", "minItems": 1, "items": {"type": "string"}
            },
            "keepalive_timeout": {"type": "integer", "minimum": 1000, "default": 60000},
            "keepalive_pool": {"type": "integer", "minimum": 1, "default": 5},
            "with_route": {"type": "boolean", "default": false},
            "with_service": {"type": "boolean", "default": false},
            "with_consumer": {"type": "boolean", "default": false}
        },
        "required": ["host", "policy"]
    }"#,
    compile,
)
.with_io(|_| true)
.with_callout("host");

#[derive(Debug)]
struct Opa {
    server: Server,
    path: String,
    timeout: Duration,
    upstream_headers: Vec<HeaderName>,
    with_route: bool,
    with_service: bool,
    with_consumer: bool,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        host: String,
        ssl_verify: bool,
        policy: String,
        timeout: u64,
        #[serde(default)]
        send_headers_upstream: Vec<String>,
        with_route: bool,
        with_service: bool,
        with_consumer: bool,
    }
    let raw: Raw = decode(settings)?;
    let headers = raw.send_headers_upstream.iter().map(|name| header_name(name));
    Ok(Arc::new(Opa {
        server: Server::parse(&raw.host, raw.ssl_verify)?,
        path: format!("/v1/data/{}", raw.policy),
        timeout: Duration::from_millis(raw.timeout),
        upstream_headers: headers.collect::<Result<_, _>>()?,
        with_route: raw.with_route,
        with_service: raw.with_service,
        with_consumer: raw.with_consumer,
    }))
}

/// What the agent answers.
#[derive(Deserialize)]
struct Decision {
    #[serde(default)]
    allow: bool,
    status_code: Option<u16>,
    #[serde(default)]
    headers: Map<String, Value>,
    reason: Option<Value>,
}

impl Opa {
    fn input(&self, exchange: &Exchange<'_>) -> Value {
        let head = &exchange.head;
        let headers = head.headers.keys().map(|name| {
            let values = head.headers.get_all(name).iter();
            let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
            (name.to_string(), values.collect::<Vec<_>>().join(", ").into())
        });
        let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
        let query = query.map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())));
        let local = exchange.cx.connection.local;
        let remote = exchange.cx.remote;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut input = json!({
            "type": "http",
            "request": {
                "scheme": scheme(head),
                "method": head.method.as_str(),
                "host": host(head),
                "port": local.port(),
                "path": head.uri.path(),
                "headers": headers.collect::<Map<_, _>>(),
                "query": query.collect::<Map<_, _>>(),
            },
            "var": {
                "server_addr": local.ip().to_string(),
                "server_port": local.port().to_string(),
                "remote_addr": remote.ip().to_string(),
                "remote_port": remote.port().to_string(),
                "timestamp": now.as_secs(),
            },
        });
        self.add_places(exchange, &mut input);
        input
    }

    /// What is known here of route, service and consumer: less than the resources say.
    fn add_places(&self, exchange: &Exchange<'_>, input: &mut Value) {
        let place = exchange.place;
        if self.with_route {
            let (id, name) = (&place.route_id, &place.route_name);
            input["route"] =
                json!({"id": id, "name": name, "uris": place.uris, "hosts": place.hosts});
        }
        if self.with_service {
            input["service"] = json!({"id": place.service_id, "name": place.service_name});
        }
        if let Some(credential) = exchange.run.credential.as_ref().filter(|_| self.with_consumer) {
            let consumer = &credential.consumer;
            input["consumer"] = json!({
                "username": consumer.name,
                "group_id": consumer.group,
                "labels": consumer.labels,
            });
        }
    }

    fn judge(&self, exchange: &mut Exchange<'_>, answer: &Response<Bytes>) -> Step {
        let said = serde_json::from_slice::<Value>(answer.body()).ok();
        let decision = said.and_then(|mut said| {
            serde_json::from_value::<Decision>(said.get_mut("result")?.take()).ok()
        });
        let Some(decision) = decision else {
            tracing::warn!("the answer of the policy agent has no decision in \"result\"");
            return Reply::status(503).into();
        };
        if !decision.allow {
            let reason = decision.reason.as_ref().map(text);
            let status = decision.status_code.unwrap_or(403);
            let mut reply =
                reason.map_or_else(|| Reply::status(status), |text| Reply::text(status, text));
            for (name, value) in &decision.headers {
                if let Ok(name) = header_name(name) {
                    reply = reply.with(name, text(value));
                }
            }
            return reply.into();
        }
        let said = |name: &HeaderName| {
            let mut headers = decision.headers.iter();
            headers.find(|(said, _)| said.eq_ignore_ascii_case(name.as_str()))
        };
        for name in &self.upstream_headers {
            match said(name) {
                Some((_, value)) => exchange.set_header(name, &text(value)),
                // What the agent does not say, the client must not say in its place.
                None => drop(exchange.head.headers.remove(name)),
            }
        }
        Step::Continue
    }
}

impl Plugin for Opa {
    fn access(&self, _: &mut Exchange<'_>) -> Step {
        Step::Wait
    }

    fn wait<'a>(&'a self, _: Phase, exchange: &'a mut Exchange<'_>) -> Waiting<'a> {
        Box::pin(async move {
            let body = json!({"input": self.input(exchange)}).to_string();
            let question = Request::builder().method(Method::POST);
            let question = question.header(http::header::CONTENT_TYPE, "application/json");
            match self.server.ask(exchange, question, &self.path, body.into(), self.timeout).await {
                Ok(answer) => self.judge(exchange, &answer),
                Err(error) => {
                    tracing::warn!(%error, "failed to process OPA decision");
                    Reply::status(403).into()
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, refused};

    fn says(decision: &Value) -> Response<Bytes> {
        Response::new(Bytes::from(json!({"result": decision}).to_string()))
    }

    fn case(mut settings: Value) -> Case {
        settings["host"] = json!("http://opa.test:8181");
        settings["policy"] = json!("shop/allow");
        Case::new("opa", settings).get("/a?b=1&c").header("x-a", "1")
    }

    #[tokio::test]
    async fn the_agent_is_told_of_the_request() {
        let case = case(json!({"with_route": true})).answered(says(&json!({"allow": true})));
        let asked = case.asked();
        case.run_waiting().await.passes();
        let (cluster, question) = &asked.borrow()[0];
        assert_eq!(cluster, "callout/http://opa.test:8181");
        assert_eq!(question.uri().path(), "/v1/data/shop/allow");
        let body: Value = serde_json::from_slice(question.body()).expect("JSON");
        let request = &body["input"]["request"];
        assert_eq!((&request["method"], &request["path"]), (&json!("GET"), &json!("/a")));
        assert_eq!(request["query"], json!({"b": "1", "c": ""}));
        assert_eq!(request["headers"]["x-a"], "1");
        assert_eq!(body["input"]["var"]["remote_addr"], "192.0.2.1");
        assert!(body["input"]["route"].is_object() && body["input"]["service"].is_null());
    }

    #[tokio::test]
    async fn a_refusal_has_the_status_the_headers_and_the_reason_of_the_agent() {
        let said = json!({
            "allow": false, "status_code": 302, "headers": {"location": "/login"},
            "reason": {"code": 1},
        });
        let reply = case(json!({})).answered(says(&said)).run_waiting().await.replies(302);
        assert_eq!((reply.header("location"), reply.text()), (Some("/login"), "{\"code\":1}"));
        let said = says(&json!({"allow": false}));
        case(json!({})).answered(said).run_waiting().await.replies(403);
    }

    #[tokio::test]
    async fn what_the_agent_says_goes_on_to_the_upstream() {
        let settings = json!({"send_headers_upstream": ["x-user", "x-a"]});
        let said = json!({"allow": true, "headers": {"X-User": "jack", "x-other": "1"}});
        let outcome = case(settings).answered(says(&said)).run_waiting().await;
        assert_eq!((outcome.header("x-user"), outcome.header("x-a")), (Some("jack"), None));
        assert_eq!(outcome.header("x-other"), None);
    }

    #[tokio::test]
    async fn an_agent_that_makes_no_sense_refuses() {
        case(json!({})).run_waiting().await.replies(403);
        let nonsense = Response::new(Bytes::from_static(b"{}"));
        case(json!({})).answered(nonsense).run_waiting().await.replies(503);
    }

    #[test]
    fn wrong_settings_are_refused() {
        let error = refused("opa", json!({"host": "http://opa"}));
        assert_eq!(error, "property \"policy\" is required");
    }
}
