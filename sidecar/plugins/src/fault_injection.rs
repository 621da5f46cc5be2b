//! `fault-injection`: delays and aborts, for a part of the requests.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde::Deserialize;
use serde_json::{Map, Value};
use weft_apisix::Rule;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Phase, Plugin, Step, Waiting};
use crate::reply::Reply;
use crate::response_rewrite::{header_name, text};
use crate::template::Template;

pub(crate) const DEFINITION: Definition = Definition::new(
    "fault-injection",
    11000,
    r#"{
        "type": "object",
        "properties": {
            "abort": {
                "type": "object",
                "properties": {
                    "http_status": {"type": "integer", "minimum": 200},
                    "body": {"type": "string", "minLength": 0},
                    "headers": {
                        "type": "object", "minProperties": 1,
                        "patternProperties": {
                            "^[^:]+$": {"oneOf": [{"type": "string"}, {"type": "number"}]}
                        }
                    },
                    "percentage": {"type": "integer", "minimum": 0, "maximum": 100},
                    "vars": {"type": "array", "maxItems": 20, "items": {"type": "array"}}
                },
                "required": ["http_status"]
            },
            "delay": {
                "type": "object",
                "properties": {
                    "duration": {"type": "number", "minimum": 0},
                    "percentage": {"type": "integer", "minimum": 0, "maximum": 100},
                    "vars": {"type": "array", "maxItems": 20, "items": {"type": "array"}}
                },
                "required": ["duration"]
            }
        },
        "minProperties": 1
    }"#,
    compile,
);

#[derive(Debug)]
struct FaultInjection {
    delay: Option<(Chance, Duration)>,
    abort: Option<(Chance, Abort)>,
}

/// For which requests.
#[derive(Debug)]
struct Chance {
    percentage: Option<u8>,
    /// One of them has to hold.
    vars: Option<Vec<Rule>>,
}

#[derive(Debug)]
struct Abort {
    status: u16,
    body: Option<Template>,
    headers: Vec<(HeaderName, Template)>,
}

#[derive(Deserialize)]
struct RawDelay {
    duration: f64,
    percentage: Option<u8>,
    vars: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct RawAbort {
    http_status: u16,
    body: Option<String>,
    headers: Option<Map<String, Value>>,
    percentage: Option<u8>,
    vars: Option<Vec<Value>>,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        delay: Option<RawDelay>,
        abort: Option<RawAbort>,
    }
    let raw: Raw = decode(settings)?;
    let delay = raw.delay.map(|delay| {
        let chance = Chance::new(delay.percentage, delay.vars.as_deref())?;
        Ok::<_, String>((chance, Duration::try_from_secs_f64(delay.duration).unwrap_or_default()))
    });
    let abort = raw.abort.map(|abort| {
        let chance = Chance::new(abort.percentage, abort.vars.as_deref())?;
        let headers = abort.headers.unwrap_or_default();
        let header = |(name, value): (&String, &Value)| {
            Ok((header_name(name)?, Template::parse(&text(value))))
        };
        let headers = headers.iter().map(header).collect::<Result<_, String>>()?;
        let body = abort.body.as_deref().map(Template::parse);
        Ok::<_, String>((chance, Abort { status: abort.http_status, body, headers }))
    });
    Ok(Arc::new(FaultInjection { delay: delay.transpose()?, abort: abort.transpose()? }))
}

impl Chance {
    fn new(percentage: Option<u8>, vars: Option<&[Value]>) -> Result<Self, String> {
        let vars = vars.map(|rules| rules.iter().map(Rule::compile).collect()).transpose()?;
        Ok(Self { percentage, vars })
    }

    fn hits(&self, exchange: &Exchange<'_>) -> bool {
        let variables = exchange.variables();
        self.percentage.is_none_or(|percentage| fastrand::u8(1..=100) <= percentage)
            && self.vars.as_ref().is_none_or(|vars| vars.iter().any(|rule| rule.holds(&variables)))
    }
}

impl FaultInjection {
    fn aborted(&self, exchange: &Exchange<'_>) -> Step {
        let Some((chance, abort)) = &self.abort else { return Step::Continue };
        if !chance.hits(exchange) {
            return Step::Continue;
        }
        let variables = exchange.variables();
        let mut reply = match &abort.body {
            Some(body) => Reply::text(abort.status, body.render(&variables)),
            None => Reply::status(abort.status),
        };
        for (name, value) in &abort.headers {
            reply = reply.with(name.clone(), value.render(&variables));
        }
        reply.into()
    }
}

impl Plugin for FaultInjection {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        match &self.delay {
            Some((chance, delay)) if !delay.is_zero() && chance.hits(exchange) => Step::Wait,
            _ => self.aborted(exchange),
        }
    }

    fn wait<'a>(&'a self, _: Phase, exchange: &'a mut Exchange<'_>) -> Waiting<'a> {
        Box::pin(async move {
            if let Some((_, delay)) = &self.delay {
                tokio::time::sleep(*delay).await;
            }
            self.aborted(exchange)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;

    use crate::testing::{Case, refused};

    #[tokio::test(start_paused = true)]
    async fn a_request_is_delayed_and_then_aborted() {
        let settings = json!({
            "delay": {"duration": 1.5},
            "abort": {"http_status": 403, "body": "no $uri", "headers": {"x-a": "$remote_addr"}},
        });
        let begin = Instant::now();
        let outcome = Case::new("fault-injection", settings).get("/p").run_waiting().await;
        assert_eq!(begin.elapsed().as_millis(), 1500);
        let reply = outcome.replies(403);
        assert_eq!(reply.text(), "no /p");
        assert_eq!(reply.header("x-a"), Some("192.0.2.1"));
    }

    #[test]
    fn chance_and_conditions_choose_the_requests() {
        for (abort, passes) in [
            (json!({"http_status": 500, "percentage": 0}), true),
            (json!({"http_status": 500, "percentage": 100}), false),
            (json!({"http_status": 500, "vars": [[["arg_a", "==", "2"]]]}), true),
            (
                json!({"http_status": 500, "vars": [[["arg_a", "==", "2"]], [["arg_a", "1"]]]}),
                false,
            ),
        ] {
            let case = Case::new("fault-injection", json!({"abort": abort})).get("/?a=1");
            assert_eq!(case.run().passed(), passes, "{abort}");
        }
        let error = refused("fault-injection", json!({"abort": {"http_status": 100}}));
        assert!(error.contains("expected 100 to be at least 200"), "{error}");
    }
}
