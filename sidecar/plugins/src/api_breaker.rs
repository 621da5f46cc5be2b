//! `api-breaker`: a path whose upstream fails is left alone for a while, longer each time.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::response::Parts as ResponseHead;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::definition::{Context, Definition, decode};
use crate::exchange::{Answer, Exchange};
use crate::keyed::Table;
use crate::plugin::{Plugin, Step};
use crate::reply::Reply;
use crate::response_rewrite::header_name;
use crate::states;
use crate::template::Template;
use crate::variables;

pub(crate) const DEFINITION: Definition = Definition::new(
    "api-breaker",
    1005,
    r#"{
        "type": "object",
        "properties": {
            "break_response_code": {"type": "integer", "minimum": 200, "maximum": 599},
            "break_response_body": {"type": "string"},
            "break_response_headers": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "key": {"type": "string", "minLength": 1},
                    "value": {"type": "string", "minLength": 1}
                },
                "required": ["key", "value"]
            }},
            "max_breaker_sec": {"type": "integer", "minimum": 3, "default": 300},
            "unhealthy": {
                "type": "object",
                "properties": {
                    "http_statuses": {
                        "type": "array", "minItems": 1, "uniqueItems": true, "default": [500],
                        "items": {"type": "integer", "minimum": 500, "maximum": 599}
                    },
                    "failures": {"type": "integer", "minimum": 1, "default": 3}
                },
                "default": {"http_statuses": [500], "failures": 3}
            },
            "healthy": {
                "type": "object",
                "properties": {
                    "http_statuses": {
                        "type": "array", "minItems": 1, "uniqueItems": true, "default": [200],
                        "items": {"type": "integer", "minimum": 200, "maximum": 499}
                    },
                    "successes": {"type": "integer", "minimum": 1, "default": 3}
                },
                "default": {"http_statuses": [200], "successes": 3}
            }
        },
        "required": ["break_response_code"]
    }"#,
    compile,
);

#[derive(Debug)]
struct ApiBreaker {
    reply: Reply,
    headers: Vec<(HeaderName, Template)>,
    longest: Duration,
    bad: Vec<u16>,
    failures: u32,
    good: Vec<u16>,
    successes: u32,
    paths: Arc<Table<Health>>,
}

/// What is known of one host and path.
#[derive(Debug, Default)]
struct Health {
    failures: u32,
    successes: u32,
    /// When the failures last were enough to open.
    opened: Option<Instant>,
}

/// The host and path of the request.
struct Path(String);

#[derive(Deserialize)]
struct Statuses {
    http_statuses: Vec<u16>,
    #[serde(alias = "failures", alias = "successes")]
    times: u32,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        break_response_code: u16,
        break_response_body: Option<String>,
        break_response_headers: Option<Vec<Header>>,
        max_breaker_sec: u64,
        unhealthy: Statuses,
        healthy: Statuses,
    }
    #[derive(Deserialize)]
    struct Header {
        key: String,
        value: String,
    }
    let raw: Raw = decode(settings)?;
    let has_body = raw.break_response_body.is_some();
    // They belong to the body.
    let headers = raw.break_response_headers.filter(|_| has_body).unwrap_or_default();
    let headers = headers
        .iter()
        .map(|header| Ok((header_name(&header.key)?, Template::parse(&header.value))));
    Ok(Arc::new(ApiBreaker {
        reply: match raw.break_response_body {
            Some(body) => Reply::text(raw.break_response_code, body),
            None => Reply::status(raw.break_response_code),
        },
        headers: headers.collect::<Result<_, String>>()?,
        longest: Duration::from_secs(raw.max_breaker_sec),
        bad: raw.unhealthy.http_statuses,
        failures: raw.unhealthy.times,
        good: raw.healthy.http_statuses,
        successes: raw.healthy.times,
        paths: states::shared("api-breaker".to_owned(), Table::default),
    }))
}

impl ApiBreaker {
    /// How long a path is left alone: 2, 4, 8 … seconds.
    fn pause(&self, failures: u32) -> Duration {
        let times = (failures / self.failures).max(1);
        let seconds = 2u64.checked_pow(times).unwrap_or(u64::MAX);
        Duration::from_secs(seconds).min(self.longest)
    }

    fn is_open(&self, path: &str) -> bool {
        let mut open = false;
        self.paths.keep_if(path, |health| {
            let pause = self.pause(health.failures);
            open = health.opened.is_some_and(|opened| opened.elapsed() <= pause);
            true
        });
        open
    }

    fn failed(&self, path: &str) {
        let idle =
            |health: &Health| health.opened.is_none_or(|opened| opened.elapsed() > self.longest);
        self.paths.with(path, Health::default, idle, |health| {
            health.failures = health.failures.saturating_add(1);
            health.successes = 0;
            if health.failures.is_multiple_of(self.failures) {
                health.opened = Some(Instant::now());
            }
        });
    }

    fn succeeded(&self, path: &str) {
        self.paths.keep_if(path, |health| {
            health.successes += 1;
            health.successes < self.successes
        });
    }
}

impl Plugin for ApiBreaker {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        let host = variables::host(exchange.head).unwrap_or_default();
        let path = format!("{host}{}", exchange.head.uri.path());
        if !self.is_open(&path) {
            exchange.keep(Path(path));
            return Step::Continue;
        }
        let variables = exchange.variables();
        let mut reply = self.reply.clone();
        for (name, value) in &self.headers {
            reply = reply.with(name.clone(), value.render(&variables));
        }
        reply.into()
    }

    fn header_filter(&self, answer: &mut Answer<'_>, head: &mut ResponseHead) {
        let Some(Path(path)) = answer.kept::<Path>() else { return };
        if answer.cx.upstream_host.is_none() {
            return;
        }
        let status = head.status.as_u16();
        if self.bad.contains(&status) {
            self.failed(path);
        } else if self.good.contains(&status) {
            self.succeeded(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokio::time::advance;

    use crate::testing::Case;

    fn respond(case: &Case, uri: &str, status: u16) {
        let mut outcome = case.again().get(uri).run();
        outcome.passes();
        outcome.reach_upstream();
        outcome.respond(status);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_open_it_and_successes_close_it() {
        let settings = json!({
            "break_response_code": 502, "break_response_body": "later",
            "break_response_headers": [{"key": "x-a", "value": "$uri"}],
            "unhealthy": {"http_statuses": [500, 503], "failures": 2},
            "healthy": {"successes": 1},
        });
        let case = Case::new("api-breaker", settings);
        respond(&case, "/breaker", 500);
        respond(&case, "/breaker", 503);
        let reply = case.again().get("/breaker").run().replies(502);
        assert_eq!((reply.text(), reply.header("x-a")), ("later", Some("/breaker")));
        case.again().get("/breaker-other").run().passes();
        advance(Duration::from_secs(3)).await;
        respond(&case, "/breaker", 500);
        respond(&case, "/breaker", 500);
        advance(Duration::from_secs(3)).await;
        case.again().get("/breaker").run().replies(502);
        advance(Duration::from_secs(2)).await;
        respond(&case, "/breaker", 200);
        respond(&case, "/breaker", 500);
        case.again().get("/breaker").run().passes();
    }

    #[test]
    fn replies_of_the_proxy_do_not_count() {
        let settings = json!({"break_response_code": 502, "unhealthy": {"failures": 1}});
        let case = Case::new("api-breaker", settings);
        let mut outcome = case.again().get("/breaker-local").run();
        outcome.respond(500);
        case.again().get("/breaker-local").run().passes();
    }
}
