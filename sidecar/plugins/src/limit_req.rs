//! `limit-req`: so many requests a second, with a burst; a leaky bucket.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::keyed::{KeySource, Table};
use crate::plugin::{Phase, Plugin, Step, Waiting};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "limit-req",
    1001,
    r#"{
        "type": "object",
        "properties": {
            "rate": {"type": "number", "exclusiveMinimum": 0},
            "burst": {"type": "number", "minimum": 0},
            "key": {"type": "string"},
            "key_type": {"type": "string", "enum": ["var", "var_combination"], "default": "var"},
            "policy": {"type": "string", "enum": ["local"], "default": "local"},
            "rejected_code": {
                "type": "integer", "minimum": 200, "maximum": 599, "default": 503
            },
            "rejected_msg": {"type": "string", "minLength": 1},
            "nodelay": {"type": "boolean", "default": false},
            "allow_degradation": {"type": "boolean", "default": false}
        },
        "required": ["rate", "burst", "key"]
    }"#,
    compile,
);

/// Shorter delays are none.
const SHORTEST: Duration = Duration::from_millis(1);

#[derive(Debug)]
struct LimitReq {
    rate: f64,
    burst: f64,
    key: KeySource,
    code: u16,
    message: Option<String>,
    delays: bool,
    buckets: Arc<Table<Bucket>>,
}

/// How much of the requests of one key is still to drain.
#[derive(Debug)]
struct Bucket {
    excess: f64,
    last: Instant,
}

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        rate: f64,
        burst: f64,
        key: String,
        key_type: String,
        rejected_code: u16,
        rejected_msg: Option<String>,
        nodelay: bool,
    }
    let raw: Raw = decode(settings)?;
    Ok(Arc::new(LimitReq {
        rate: raw.rate,
        burst: raw.burst,
        key: KeySource::new(&raw.key, &raw.key_type),
        code: raw.rejected_code,
        message: raw.rejected_msg,
        delays: !raw.nodelay,
        buckets: context.state(settings, Table::default),
    }))
}

impl LimitReq {
    /// How long the request has to wait; `None` if it is one too many.
    fn incoming(&self, key: &str) -> Option<Duration> {
        let now = Instant::now();
        let drained = |bucket: &Bucket| {
            let passed = now.saturating_duration_since(bucket.last).as_secs_f64();
            bucket.excess - self.rate * passed
        };
        let new = || Bucket { excess: -1.0, last: now };
        let excess = self.buckets.with(
            key,
            new,
            |bucket| drained(bucket) <= 0.0,
            |bucket| {
                let excess = (drained(bucket) + 1.0).max(0.0);
                if excess > self.burst {
                    return None;
                }
                *bucket = Bucket { excess, last: now };
                Some(excess)
            },
        )?;
        Some(Duration::try_from_secs_f64(excess / self.rate).unwrap_or(Duration::MAX))
    }
}

impl Plugin for LimitReq {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        let key = self.key.of(exchange);
        match self.incoming(&key) {
            None => Reply::rejection(self.code, self.message.as_deref()).into(),
            Some(delay) if self.delays && delay >= SHORTEST => {
                exchange.keep(delay);
                Step::Wait
            }
            Some(_) => Step::Continue,
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
    use std::time::Duration;

    use serde_json::json;
    use tokio::time::{Instant, advance};

    use crate::testing::Case;

    #[tokio::test(start_paused = true)]
    async fn what_exceeds_rate_and_burst_is_refused_and_the_burst_is_delayed() {
        let settings = json!({"rate": 2, "burst": 1, "key": "remote_addr"});
        let case = Case::new("limit-req", settings);
        case.again().get("/").run_waiting().await.passes();
        let begin = Instant::now();
        case.again().get("/").run_waiting().await.passes();
        assert_eq!(begin.elapsed().as_millis(), 500);
        case.again().get("/").run_waiting().await.passes();
        assert_eq!(begin.elapsed().as_millis(), 1000);
        advance(Duration::from_secs(10)).await;
        case.again().get("/").run_waiting().await.passes();
    }

    #[tokio::test(start_paused = true)]
    async fn without_delay_the_burst_passes_at_once_and_others_have_their_own() {
        let settings = json!({
            "rate": 1, "burst": 1, "key": "$remote_addr $arg_u", "key_type": "var_combination",
            "nodelay": true, "rejected_code": 429, "rejected_msg": "slow",
        });
        let case = Case::new("limit-req", settings);
        case.again().get("/?u=1").run().passes();
        case.again().get("/?u=1").run().passes();
        let reply = case.again().get("/?u=1").run().replies(429);
        assert_eq!(reply.text(), "{\"error_msg\":\"slow\"}\n");
        case.again().get("/?u=2").run().passes();
        advance(Duration::from_secs(1)).await;
        case.again().get("/?u=1").run().passes();
    }
}
