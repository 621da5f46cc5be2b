//! `limit-conn`: so many requests at a time; those above wait a little, then are refused.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::keyed::{Amount, KeySource, Table};
use crate::plugin::{Phase, Plugin, Step, Waiting};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "limit-conn",
    1003,
    r#"{
        "type": "object",
        "properties": {
            "conn": {"oneOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string"}]},
            "burst": {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]},
            "default_conn_delay": {"type": "number", "exclusiveMinimum": 0},
            "only_use_default_delay": {"type": "boolean", "default": false},
            "key": {"type": "string"},
            "key_type": {"type": "string", "enum": ["var", "var_combination"], "default": "var"},
            "policy": {"type": "string", "enum": ["local"], "default": "local"},
            "rejected_code": {
                "type": "integer", "minimum": 200, "maximum": 599, "default": 503
            },
            "rejected_msg": {"type": "string", "minLength": 1},
            "allow_degradation": {"type": "boolean", "default": false},
            "rules": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "conn": {
                        "oneOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string"}]
                    },
                    "burst": {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]},
                    "key": {"type": "string"}
                },
                "required": ["conn", "burst", "key"]
            }}
        },
        "oneOf": [
            {"required": ["conn", "burst", "default_conn_delay", "key"]},
            {"required": ["default_conn_delay", "rules"]}
        ]
    }"#,
    compile,
);

#[derive(Debug)]
struct LimitConn {
    rules: Vec<Rule>,
    /// Whether rules whose key has no variable with a value are left out.
    skips: bool,
    code: u16,
    message: Option<String>,
    degrades: bool,
    default_only: bool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Rule {
    conn: Amount,
    burst: Amount,
    key: KeySource,
}

#[derive(Debug)]
struct Shared {
    /// Requests in flight.
    active: Table<u64>,
    /// Seconds that a request above the limit waits for each limit's worth above it; follows how
    /// long requests take.
    delay: Mutex<f64>,
}

/// A request in flight; counted until it is dropped.
struct InFlight {
    shared: Arc<Shared>,
    key: String,
    since: Instant,
    default_only: bool,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.active.keep_if(&self.key, |count| {
            *count = count.saturating_sub(1);
            *count > 0
        });
        if !self.default_only {
            let mut delay = self.shared.delay.lock();
            *delay = f64::midpoint(*delay, self.since.elapsed().as_secs_f64());
        }
    }
}

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        default_conn_delay: f64,
        only_use_default_delay: bool,
        rejected_code: u16,
        rejected_msg: Option<String>,
        allow_degradation: bool,
        rules: Option<Vec<Value>>,
    }
    let raw: Raw = decode(settings)?;
    let key_type = settings["key_type"].as_str().unwrap_or_default();
    let rule = |json: &Value, key_type: &str| {
        Some(Rule {
            conn: Amount::read(&json["conn"])?,
            burst: Amount::read(&json["burst"])?,
            key: KeySource::new(json["key"].as_str()?, key_type),
        })
    };
    let rules = match &raw.rules {
        Some(rules) => rules.iter().filter_map(|json| rule(json, "var_combination")).collect(),
        None => rule(settings, key_type).into_iter().collect(),
    };
    let delay = raw.default_conn_delay;
    Ok(Arc::new(LimitConn {
        rules,
        skips: raw.rules.is_some(),
        code: raw.rejected_code,
        message: raw.rejected_msg,
        degrades: raw.allow_degradation,
        default_only: raw.only_use_default_delay,
        shared: context
            .state(settings, || Shared { active: Table::default(), delay: Mutex::new(delay) }),
    }))
}

impl LimitConn {
    fn incoming(&self, exchange: &mut Exchange<'_>) -> Result<f64, Box<Reply>> {
        let mut waits = 0.0_f64;
        let mut counted = 0;
        for (index, rule) in self.rules.iter().enumerate() {
            if self.skips && !has_value(&rule.key, exchange) {
                continue;
            }
            let amounts = {
                let variables = exchange.variables();
                rule.conn.of(&variables, 1).zip(rule.burst.of(&variables, 0))
            };
            let Some((most, burst)) = amounts else {
                if self.skips {
                    continue;
                }
                return if self.degrades { Ok(0.0) } else { Err(Box::new(Reply::status(500))) };
            };
            counted += 1;
            let key = format!("{index}:{}", rule.key.of(exchange));
            let count = self.shared.active.with(
                &key,
                || 0,
                |count| *count == 0,
                |count| {
                    let allowed = *count < most.saturating_add(burst);
                    *count += u64::from(allowed);
                    allowed.then_some(*count)
                },
            );
            let Some(count) = count else {
                return Err(Box::new(Reply::rejection(self.code, self.message.as_deref())));
            };
            exchange.keep(InFlight {
                shared: Arc::clone(&self.shared),
                key,
                since: Instant::now(),
                default_only: self.default_only,
            });
            if count > most {
                let delay = *self.shared.delay.lock();
                #[expect(clippy::cast_precision_loss, reason = "a small quotient")]
                let over = ((count - 1) / most) as f64;
                waits += over * delay;
            }
        }
        if counted == 0 && !self.degrades {
            return Err(Box::new(Reply::status(500)));
        }
        Ok(waits)
    }
}

/// Whether a rule's key has a variable with a value.
fn has_value(key: &KeySource, exchange: &Exchange<'_>) -> bool {
    match key {
        KeySource::Combination(template) => {
            template.fixed().is_none() && template.render_counted(&exchange.variables()).1 > 0
        }
        KeySource::Variable(_) | KeySource::Constant(_) => true,
    }
}

impl Plugin for LimitConn {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        match self.incoming(exchange) {
            Err(reply) => Step::Reply(reply),
            Ok(seconds) if seconds >= 0.001 => {
                exchange.keep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
                Step::Wait
            }
            Ok(_) => Step::Continue,
        }
    }

    fn wait<'a>(&'a self, _: Phase, exchange: &'a mut Exchange<'_>) -> Waiting<'a> {
        let delay = exchange.run.kept::<Duration>(exchange.link).copied().unwrap_or_default();
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            Step::Continue
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;

    use crate::testing::Case;

    #[tokio::test(start_paused = true)]
    async fn requests_above_the_limit_wait_and_above_the_burst_are_refused() {
        let settings = json!({
            "conn": 1, "burst": 1, "default_conn_delay": 0.2, "key": "remote_addr",
            "only_use_default_delay": true, "rejected_code": 429,
        });
        let case = Case::new("limit-conn", settings);
        let begin = Instant::now();
        let first = case.again().get("/").run_waiting().await;
        assert_eq!(begin.elapsed().as_millis(), 0);
        let second = case.again().get("/").run_waiting().await;
        assert_eq!(begin.elapsed().as_millis(), 200);
        second.passes();
        case.again().get("/").run_waiting().await.replies(429);
        case.again().from([192, 0, 2, 9]).get("/").run_waiting().await.passes();
        drop((first, second));
        let begin = Instant::now();
        case.again().get("/").run_waiting().await.passes();
        assert_eq!(begin.elapsed().as_millis(), 0);
    }

    #[test]
    fn limits_can_stand_in_variables() {
        let settings = json!({
            "conn": "$arg_n", "burst": 0, "default_conn_delay": 1, "key": "remote_addr",
        });
        let case = Case::new("limit-conn", settings);
        let first = case.again().get("/?n=1").run();
        first.passes();
        case.again().get("/?n=1").run().replies(503);
        case.again().get("/?n=none").run().replies(500);
    }
}
