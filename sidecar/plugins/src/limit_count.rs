//! `limit-count`: so many requests in a window of time.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::keyed::{Amount, KeySource, Table};
use crate::plugin::{Plugin, Step};
use crate::reply::Reply;
use crate::states;
use crate::template::Template;

pub(crate) const DEFINITION: Definition = Definition::new(
    "limit-count",
    1002,
    r#"{
        "type": "object",
        "properties": {
            "count": {"oneOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string"}]},
            "time_window": {
                "oneOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string"}]
            },
            "window_type": {
                "type": "string", "enum": ["fixed", "sliding"], "default": "fixed"
            },
            "rules": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "count": {
                        "oneOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string"}]
                    },
                    "time_window": {
                        "oneOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string"}]
                    },
                    "key": {"type": "string"},
                    "header_prefix": {"type": "string"}
                },
                "required": ["count", "time_window", "key"]
            }},
            "group": {"type": "string"},
            "key": {"type": "string", "default": "remote_addr"},
            "key_type": {
                "type": "string", "enum": ["var", "var_combination", "constant"], "default": "var"
            },
            "rejected_code": {
                "type": "integer", "minimum": 200, "maximum": 599, "default": 503
            },
            "rejected_msg": {"type": "string", "minLength": 1},
            "policy": {"type": "string", "enum": ["local"], "default": "local"},
            "allow_degradation": {"type": "boolean", "default": false},
            "show_limit_quota_header": {"type": "boolean", "default": true},
            "sync_interval": {"type": "number", "default": -1}
        },
        "oneOf": [{"required": ["count", "time_window"]}, {"required": ["rules"]}]
    }"#,
    compile,
)
.with_metadata(
    r#"{
        "type": "object",
        "properties": {
            "limit_header": {"type": "string", "default": "X-RateLimit-Limit"},
            "remaining_header": {"type": "string", "default": "X-RateLimit-Remaining"},
            "reset_header": {"type": "string", "default": "X-RateLimit-Reset"}
        }
    }"#,
);

#[derive(Debug)]
struct LimitCount {
    rules: Vec<Rule>,
    sliding: bool,
    code: u16,
    message: Option<String>,
    degrades: bool,
    shows: bool,
    windows: Arc<Table<Window>>,
}

#[derive(Debug)]
struct Rule {
    count: Amount,
    window: Amount,
    key: KeySource,
    /// A rule of several is left out if its key has no value.
    optional: Option<Template>,
    headers: [HeaderName; 3],
}

/// The requests of one key in the present window and the one before it.
#[derive(Debug)]
struct Window {
    begin: Instant,
    length: Duration,
    count: u64,
    before: u64,
}

/// What became of a request.
#[derive(Debug, PartialEq)]
struct Counted {
    allowed: bool,
    remaining: u64,
    /// Seconds.
    reset: f64,
}

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        window_type: String,
        rules: Option<Vec<Map<String, Value>>>,
        group: Option<String>,
        rejected_code: u16,
        rejected_msg: Option<String>,
        allow_degradation: bool,
        show_limit_quota_header: bool,
    }
    let raw: Raw = decode(settings)?;
    let alone = settings.get("count").is_some() || settings.get("time_window").is_some();
    if raw.rules.is_some() && alone {
        return Err("count/time_window and rules cannot be specified at the same time".into());
    }
    if raw.group.is_some() && raw.rules.is_some() {
        return Err("group and rules cannot be specified at the same time".into());
    }
    let windows = match &raw.group {
        Some(group) => states::shared(format!("limit-count group {group}"), Table::default),
        None => context.state(settings, Table::default),
    };
    Ok(Arc::new(LimitCount {
        rules: rules(settings, raw.rules.as_deref(), context.metadata)?,
        sliding: raw.window_type == "sliding",
        code: raw.rejected_code,
        message: raw.rejected_msg,
        degrades: raw.allow_degradation,
        shows: raw.show_limit_quota_header,
        windows,
    }))
}

fn rules(
    settings: &Value,
    several: Option<&[Map<String, Value>]>,
    metadata: &Value,
) -> Result<Vec<Rule>, String> {
    let wrong = || "a count or a time_window is missing".to_owned();
    let text = |name: &str| settings[name].as_str().unwrap_or_default();
    let Some(several) = several else {
        return Ok(vec![Rule {
            count: Amount::read(&settings["count"]).ok_or_else(wrong)?,
            window: Amount::read(&settings["time_window"]).ok_or_else(wrong)?,
            key: KeySource::new(text("key"), text("key_type")),
            optional: None,
            headers: headers(metadata, None)?,
        }]);
    };
    let mut rules: Vec<Rule> = Vec::new();
    let mut keys = std::collections::HashSet::new();
    for (index, rule) in several.iter().enumerate() {
        let key = rule["key"].as_str().unwrap_or_default();
        if !keys.insert(key) {
            return Err(format!("duplicate key '{key}' in rules"));
        }
        let number = (index + 1).to_string();
        let prefix = rule.get("header_prefix").and_then(Value::as_str).unwrap_or(&number);
        rules.push(Rule {
            count: Amount::read(&rule["count"]).ok_or_else(wrong)?,
            window: Amount::read(&rule["time_window"]).ok_or_else(wrong)?,
            key: KeySource::new(key, "var_combination"),
            optional: Some(Template::parse(key)),
            headers: headers(metadata, Some(prefix))?,
        });
    }
    Ok(rules)
}

/// The names of the headers that tell limit, rest and seconds.
fn headers(metadata: &Value, prefix: Option<&str>) -> Result<[HeaderName; 3], String> {
    let name = |field: &str, default: &str| {
        let name = metadata[field].as_str().unwrap_or(default);
        let name = match prefix {
            Some(prefix) => name.replacen("RateLimit-", &format!("{prefix}-RateLimit-"), 1),
            None => name.to_owned(),
        };
        name.parse().map_err(|_| format!("invalid header name: {name}"))
    };
    Ok([
        name("limit_header", "X-RateLimit-Limit")?,
        name("remaining_header", "X-RateLimit-Remaining")?,
        name("reset_header", "X-RateLimit-Reset")?,
    ])
}

impl LimitCount {
    fn incoming(&self, key: &str, most: u64, length: Duration) -> Counted {
        let now = Instant::now();
        let new = || Window { begin: now, length, count: 0, before: 0 };
        let idle = |window: &Window| {
            now.saturating_duration_since(window.begin) > window.length.saturating_mul(2)
        };
        self.windows.with(key, new, idle, |window| window.count(now, most, length, self.sliding))
    }

    fn run(&self, rule: &Rule, exchange: &mut Exchange<'_>) -> Result<(), Box<Reply>> {
        let amounts = {
            let variables = exchange.variables();
            if let Some(key) = &rule.optional
                && key.render_counted(&variables).1 == 0
            {
                return Ok(());
            }
            rule.count.of(&variables, 1).zip(rule.window.of(&variables, 1))
        };
        let Some((most, seconds)) = amounts else {
            return if self.degrades { Ok(()) } else { Err(Box::new(Reply::status(500))) };
        };
        let key = rule.key.of(exchange);
        let counted = self.incoming(&key, most, Duration::from_secs(seconds));
        if self.shows {
            let [limit, remaining, reset] = &rule.headers;
            exchange.set_response_header(limit, &most.to_string());
            exchange.set_response_header(remaining, &counted.remaining.to_string());
            let seconds = (counted.reset * 100.0).floor() / 100.0;
            exchange.set_response_header(reset, &seconds.to_string());
        }
        if counted.allowed {
            return Ok(());
        }
        Err(Box::new(Reply::rejection(self.code, self.message.as_deref())))
    }
}

impl Window {
    fn count(&mut self, now: Instant, most: u64, length: Duration, sliding: bool) -> Counted {
        let passed = now.saturating_duration_since(self.begin);
        if self.length != length || (passed >= length && !sliding) {
            *self = Self { begin: now, length, count: 0, before: 0 };
        } else if passed >= length {
            let next = passed < length.saturating_mul(2);
            let before = if next { self.count } else { 0 };
            let begin = if next { self.begin + length } else { now };
            *self = Self { begin, length, count: 0, before };
        }
        let passed = now.saturating_duration_since(self.begin);
        let left = length.saturating_sub(passed).as_secs_f64();
        // Of the window before, the part that is still within the length counts.
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most the count of the window before"
        )]
        let weighed = (self.before as f64 * left / length.as_secs_f64()) as u64;
        let used = if sliding { self.count + weighed } else { self.count };
        let allowed = used < most;
        self.count += u64::from(allowed);
        let remaining = most.saturating_sub(used + u64::from(allowed));
        Counted { allowed, remaining, reset: left }
    }
}

impl Plugin for LimitCount {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        for rule in &self.rules {
            if let Err(reply) = self.run(rule, exchange) {
                return Step::Reply(reply);
            }
        }
        Step::Continue
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokio::time::advance;

    use crate::testing::{Case, refused};

    #[tokio::test(start_paused = true)]
    async fn a_window_lets_so_many_pass_and_tells_the_rest() {
        let case = Case::new("limit-count", json!({"count": 2, "time_window": 60}));
        for left in ["1", "0"] {
            let mut outcome = case.again().get("/").run();
            let reply = outcome.respond(200);
            assert_eq!(reply.header("x-ratelimit-limit"), Some("2"));
            assert_eq!(reply.header("x-ratelimit-remaining"), Some(left));
            assert_eq!(reply.header("x-ratelimit-reset"), Some("60"));
        }
        advance(Duration::from_secs(20)).await;
        let reply = case.again().get("/").run().replies(503);
        assert_eq!(reply.header("x-ratelimit-remaining"), Some("0"));
        assert_eq!(reply.header("x-ratelimit-reset"), Some("40"));
        case.again().from([192, 0, 2, 9]).get("/").run().passes();
        advance(Duration::from_secs(40)).await;
        case.again().get("/").run().passes();
    }

    #[tokio::test(start_paused = true)]
    async fn a_sliding_window_remembers_the_one_before() {
        let settings = json!({"count": 4, "time_window": 10, "window_type": "sliding"});
        let case = Case::new("limit-count", settings);
        for _ in 0..4 {
            case.again().get("/").run().passes();
        }
        case.again().get("/").run().replies(503);
        advance(Duration::from_secs(15)).await;
        case.again().get("/").run().passes();
        case.again().get("/").run().passes();
        case.again().get("/").run().replies(503);
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_several_rules_has_its_headers_and_applies_if_its_key_is_there() {
        let settings = json!({"rejected_msg": "no", "rules": [
            {"count": 1, "time_window": 10, "key": "$arg_u"},
            {"count": "$arg_n", "time_window": 10, "key": "all $remote_addr", "header_prefix": "A"},
        ]});
        let case = Case::new("limit-count", settings);
        let mut outcome = case.again().get("/?n=5").run();
        let reply = outcome.respond(200);
        assert_eq!(reply.header("x-1-ratelimit-limit"), None);
        assert_eq!(reply.header("x-a-ratelimit-remaining"), Some("4"));
        case.again().get("/?n=5&u=1").run().passes();
        let reply = case.again().get("/?n=5&u=1").run().replies(503);
        assert_eq!(reply.text(), "{\"error_msg\":\"no\"}\n");
        assert_eq!(reply.header("x-1-ratelimit-remaining"), Some("0"));
        case.again().get("/").run().replies(500);
    }

    #[test]
    fn a_group_counts_together_and_settings_that_exclude_each_other_are_refused() {
        let settings = json!({"count": 1, "time_window": 60, "group": "limit-count-test"});
        let (one, other) =
            (Case::new("limit-count", settings.clone()), Case::new("limit-count", settings));
        one.get("/").run().passes();
        other.get("/").run().replies(503);
        let settings = json!({"group": "g", "rules": []});
        assert_eq!(
            refused("limit-count", settings),
            "group and rules cannot be specified at the same time"
        );
    }
}
