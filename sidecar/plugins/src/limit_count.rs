//! `limit-count`: so many requests in a window of time.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderName;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::keyed::{Amount, KeySource, Table};
use crate::plugin::{Phase, Plugin, Step, Waiting};
use crate::redis::Redis;
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
            "policy": {"type": "string", "enum": ["local", "redis"], "default": "local"},
            "allow_degradation": {"type": "boolean", "default": false},
            "show_limit_quota_header": {"type": "boolean", "default": true},
            "sync_interval": {"type": "number", "default": -1}
        },
        "oneOf": [{"required": ["count", "time_window"]}, {"required": ["rules"]}],
        "if": {"properties": {"policy": {"enum": ["redis"]}}},
        "then": {
            "properties": {
                "redis_host": {"type": "string", "minLength": 2},
                "redis_port": {"type": "integer", "minimum": 1, "default": 6379},
                "redis_username": {"type": "string", "minLength": 1},
                "redis_password": {"type": "string", "minLength": 0},
                "redis_database": {"type": "integer", "minimum": 0, "default": 0},
                "redis_timeout": {"type": "integer", "minimum": 1, "default": 1000},
                "redis_ssl": {"type": "boolean", "enum": [false], "default": false},
                "window_type": {"enum": ["fixed"]},
                "sync_interval": {"enum": [-1]}
            },
            "required": ["redis_host"]
        }
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
    store: Store,
}

/// Where requests are counted.
#[derive(Debug)]
enum Store {
    Local(Arc<Table<Window>>),
    Redis {
        redis: Redis,
        /// What the keys of this configuration begin with.
        prefix: String,
    },
}

/// Takes one of what is left in the window, which begins with its first request; gives what is left
/// and the seconds to the window's end.
const TAKE: &str = "local left = redis.call('get', KEYS[1]) \
    if not left then \
        redis.call('set', KEYS[1], ARGV[1] - 1, 'EX', ARGV[2]) \
        return {ARGV[1] - 1, tonumber(ARGV[2])} \
    end \
    return {redis.call('decr', KEYS[1]), redis.call('ttl', KEYS[1])}";

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
        policy: String,
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
    let store = if raw.policy == "redis" {
        let hash = digest(&SHA256, settings.to_string().as_bytes());
        let version: String = hash.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        let prefix = match &raw.group {
            Some(group) => format!("plugin-limit-count{group}:"),
            None => format!("plugin-limit-count{}:{version}:", context.owner),
        };
        Store::Redis { redis: Redis::new(settings)?, prefix }
    } else {
        Store::Local(match &raw.group {
            Some(group) => states::shared(format!("limit-count group {group}"), Table::default),
            None => context.state(settings, Table::default),
        })
    };
    Ok(Arc::new(LimitCount {
        rules: rules(settings, raw.rules.as_deref(), context.metadata)?,
        sliding: raw.window_type == "sliding",
        code: raw.rejected_code,
        message: raw.rejected_msg,
        degrades: raw.allow_degradation,
        shows: raw.show_limit_quota_header,
        store,
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

/// What a rule says of one request.
struct Asked {
    key: String,
    most: u64,
    /// Seconds.
    window: u64,
}

impl LimitCount {
    /// Nothing where the rule does not apply.
    fn asked(&self, rule: &Rule, exchange: &Exchange<'_>) -> Result<Option<Asked>, Box<Reply>> {
        let amounts = {
            let variables = exchange.variables();
            if let Some(key) = &rule.optional
                && key.render_counted(&variables).1 == 0
            {
                return Ok(None);
            }
            rule.count.of(&variables, 1).zip(rule.window.of(&variables, 1))
        };
        match amounts {
            Some((most, window)) => Ok(Some(Asked { key: rule.key.of(exchange), most, window })),
            None if self.degrades => Ok(None),
            None => Err(Box::new(Reply::status(500))),
        }
    }

    fn told(
        &self,
        rule: &Rule,
        most: u64,
        counted: &Counted,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Box<Reply>> {
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

    fn run(
        &self,
        windows: &Table<Window>,
        rule: &Rule,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Box<Reply>> {
        let Some(Asked { key, most, window }) = self.asked(rule, exchange)? else { return Ok(()) };
        let (now, length) = (Instant::now(), Duration::from_secs(window));
        let new = || Window { begin: now, length, count: 0, before: 0 };
        let idle = |window: &Window| {
            now.saturating_duration_since(window.begin) > window.length.saturating_mul(2)
        };
        let counted =
            windows.with(&key, new, idle, |window| window.count(now, most, length, self.sliding));
        self.told(rule, most, &counted, exchange)
    }

    async fn run_shared(
        &self,
        redis: &Redis,
        prefix: &str,
        rule: &Rule,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Box<Reply>> {
        let Some(Asked { key, most, window }) = self.asked(rule, exchange)? else { return Ok(()) };
        let arguments = [most.to_string(), window.to_string()];
        let taken = redis.eval(TAKE, &format!("{prefix}{key}"), &arguments).await;
        let (left, seconds) = match taken.as_deref() {
            Ok([left, seconds]) => (*left, *seconds),
            other => {
                tracing::warn!(?other, "failed to limit count");
                if self.degrades {
                    return Ok(());
                }
                return Err(Box::new(Reply::error_msg(500, "failed to limit count")));
            }
        };
        let counted = Counted {
            allowed: left >= 0,
            remaining: u64::try_from(left).unwrap_or(0),
            #[expect(clippy::cast_precision_loss, reason = "seconds of a window")]
            reset: seconds.max(0) as f64,
        };
        self.told(rule, most, &counted, exchange)
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
        let Store::Local(windows) = &self.store else { return Step::Wait };
        for rule in &self.rules {
            if let Err(reply) = self.run(windows, rule, exchange) {
                return Step::Reply(reply);
            }
        }
        Step::Continue
    }

    fn wait<'a>(&'a self, _: Phase, exchange: &'a mut Exchange<'_>) -> Waiting<'a> {
        Box::pin(async move {
            let Store::Redis { redis, prefix } = &self.store else { return Step::Continue };
            for rule in &self.rules {
                if let Err(reply) = self.run_shared(redis, prefix, rule, exchange).await {
                    return Step::Reply(reply);
                }
            }
            Step::Continue
        })
    }
}

#[cfg(test)]
mod tests;
