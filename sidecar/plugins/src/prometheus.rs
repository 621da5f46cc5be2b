//! `prometheus`: counts requests and how long they take, under the names that APISIX gives them.
//!
//! What is counted is shown by `public-api` on a route for `/apisix/prometheus/metrics`.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::{Ended, Exchange};
use crate::keyed::Table;
use crate::logging::HOSTNAME;
use crate::plugin::{Plugin, Step};
use crate::variables;

pub(crate) const DEFINITION: Definition = Definition::new(
    "prometheus",
    500,
    r#"{
        "type": "object",
        "properties": {"prefer_name": {"type": "boolean", "default": false}}
    }"#,
    compile,
)
.with_metadata(
    r#"{
        "type": "object",
        "properties": {"disabled_labels": {"type": "object"}}
    }"#,
);

/// Upper bounds, milliseconds.
const BUCKETS: [f64; 15] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0,
    30_000.0, 60_000.0,
];

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// What has been counted since the proxy began.
#[derive(Debug, Default)]
struct Metrics {
    requests: AtomicU64,
    status: Table<u64>,
    latency: Table<Histogram>,
}

#[derive(Debug, Default)]
struct Histogram {
    /// How many were at most so long as each bound.
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

#[derive(Debug)]
struct Prometheus {
    prefer_name: bool,
    /// By metric.
    disabled: Value,
}

/// Labels with their values, in order.
type Labels<'a> = [(&'static str, &'a str)];

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        prefer_name: bool,
    }
    let raw: Raw = decode(settings)?;
    let disabled = context.metadata["disabled_labels"].clone();
    Ok(Arc::new(Prometheus { prefer_name: raw.prefer_name, disabled }))
}

impl Plugin for Prometheus {
    fn access(&self, _: &mut Exchange<'_>) -> Step {
        METRICS.requests.fetch_add(1, Ordering::Relaxed);
        Step::Continue
    }

    fn logs(&self) -> bool {
        true
    }

    fn log(&self, ended: &Ended) {
        let place = &ended.place;
        let named = |name: &Option<String>, id: &Option<String>| {
            let name = name.clone().filter(|_| self.prefer_name);
            name.or_else(|| id.clone()).unwrap_or_default()
        };
        let route = named(&place.route_name, &place.route_id);
        let service = named(&place.service_name, &place.service_id);
        let consumer = ended.consumer.as_ref().map_or("", |one| one.consumer.name.as_str());
        let node = ended.upstream.map(|address| address.ip().to_string()).unwrap_or_default();
        let host = variables::host(&ended.request).unwrap_or_default();
        let code = ended.status.to_string();
        let source = if ended.upstream.is_some() { "upstream" } else { "apisix" };
        let key = self.key(
            "http_status",
            &[
                ("code", &code),
                ("route", &route),
                ("matched_uri", pattern(&place.uris, ended.request.uri.path())),
                ("matched_host", pattern(&place.hosts, &host)),
                ("service", &service),
                ("consumer", consumer),
                ("node", &node),
                ("request_type", "traditional_http"),
                ("response_source", source),
            ],
        );
        METRICS.status.with(&key, || 0, |_| false, |count| *count += 1);
        let millis = ended.started.elapsed().as_secs_f64() * 1000.0;
        let until = ended.answered.saturating_duration_since(ended.started).as_secs_f64() * 1000.0;
        let upstream = ended.upstream.map(|_| until);
        let own = upstream.map_or(millis, |upstream| (millis - upstream).max(0.0));
        for (kind, millis) in
            [("request", Some(millis)), ("upstream", upstream), ("apisix", Some(own))]
        {
            let Some(millis) = millis else { continue };
            let key = self.key(
                "http_latency",
                &[
                    ("type", kind),
                    ("route", &route),
                    ("service", &service),
                    ("consumer", consumer),
                    ("node", &node),
                    ("request_type", "traditional_http"),
                ],
            );
            METRICS.latency.with(&key, Histogram::default, |_| false, |all| all.observe(millis));
        }
    }
}

impl Prometheus {
    /// The labels as they are shown; disabled ones are empty.
    fn key(&self, metric: &str, labels: &Labels<'_>) -> String {
        let disabled = self.disabled[metric].as_array();
        let is_disabled =
            |name: &str| disabled.is_some_and(|all| all.iter().any(|label| label == name));
        let mut text = String::with_capacity(128);
        for (name, value) in labels {
            let value = if is_disabled(name) { "" } else { value };
            let separator = if text.is_empty() { "" } else { "," };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // A text takes what is written.
            let _ = write!(text, "{separator}{name}=\"{value}\"");
        }
        text
    }
}

/// The pattern of the route that the text fits.
fn pattern<'a>(patterns: &'a [String], text: &str) -> &'a str {
    let fits = |pattern: &&String| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (_, Some(prefix)) => text.starts_with(prefix),
        (Some(suffix), None) => text.ends_with(suffix),
        (None, None) => text == **pattern,
    };
    patterns.iter().find(fits).map_or("", String::as_str)
}

impl Histogram {
    fn observe(&mut self, millis: f64) {
        self.count += 1;
        self.sum += millis;
        for (bucket, bound) in self.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(millis <= bound);
        }
    }
}

/// Everything in Prometheus's text format.
pub(crate) fn text() -> String {
    let mut text = String::new();
    let requests = METRICS.requests.load(Ordering::Relaxed);
    let version = env!("CARGO_PKG_VERSION");
    let hostname = &*HOSTNAME;
    let mut line = |line: std::fmt::Arguments<'_>| {
        // A text takes what is written.
        let _ = text.write_fmt(line);
        text.push('\n');
    };
    line(format_args!("# HELP apisix_http_requests_total The total number of client requests"));
    line(format_args!("# TYPE apisix_http_requests_total gauge"));
    line(format_args!("apisix_http_requests_total {requests}"));
    line(format_args!("# HELP apisix_node_info Info of APISIX node"));
    line(format_args!("# TYPE apisix_node_info gauge"));
    line(format_args!("apisix_node_info{{hostname=\"{hostname}\",version=\"{version}\"}} 1"));
    line(format_args!("# HELP apisix_http_status HTTP status codes per service in APISIX"));
    line(format_args!("# TYPE apisix_http_status counter"));
    METRICS.status.each(|labels, count| {
        line(format_args!("apisix_http_status{{{labels}}} {count}"));
    });
    line(format_args!("# HELP apisix_http_latency HTTP request latency in milliseconds"));
    line(format_args!("# TYPE apisix_http_latency histogram"));
    METRICS.latency.each(|labels, all| {
        for (bucket, bound) in all.buckets.iter().zip(BUCKETS) {
            line(format_args!("apisix_http_latency_bucket{{{labels},le=\"{bound}\"}} {bucket}"));
        }
        let Histogram { count, sum, .. } = all;
        line(format_args!("apisix_http_latency_bucket{{{labels},le=\"+Inf\"}} {count}"));
        line(format_args!("apisix_http_latency_sum{{{labels}}} {sum}"));
        line(format_args!("apisix_http_latency_count{{{labels}}} {count}"));
    });
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn requests_are_counted_by_their_labels_and_shown_by_public_api() {
        let chain = json!({
            "route_id": "prometheus-test", "route_name": "named",
            "uris": ["/a/*", "/b"], "hosts": ["shop"],
            "plugins": {"prometheus": {}},
        });
        let case = Case::chain(chain);
        for status in [200, 200, 404] {
            let mut outcome = case.again().get("/a/1").run();
            outcome.reach_upstream();
            outcome.respond(status);
        }
        drop(case);
        let shown = Case::new("public-api", json!({"uri": "/apisix/prometheus/metrics"}));
        let shown = shown.get("/metrics").run().replies(200);
        let line = |code: u16| {
            format!(
                "apisix_http_status{{code=\"{code}\",route=\"prometheus-test\",\
                 matched_uri=\"/a/*\",matched_host=\"shop\",service=\"\",consumer=\"\",\
                 node=\"192.0.2.3\",request_type=\"traditional_http\",\
                 response_source=\"upstream\"}}"
            )
        };
        for (code, count) in [(200, 2), (404, 1)] {
            let line = format!("{} {count}\n", line(code));
            assert!(shown.text().contains(&line), "{line} in {}", shown.text());
        }
        let count = "apisix_http_latency_count{type=\"request\",route=\"prometheus-test\",";
        assert!(shown.text().contains(count), "{}", shown.text());
    }

    #[test]
    fn a_route_s_own_replaces_the_global_one() {
        let chain = json!({
            "route_id": "prefer-route", "route_name": "prefer-name",
            "global": [{"owner": "/apisix/global_rules/1", "plugins": {"prometheus": {}}}],
            "plugins": {"prometheus": {"prefer_name": true}},
        });
        Case::chain(chain).get("/").run().respond(200);
        let text = super::text();
        assert!(text.contains("route=\"prefer-name\""), "{text}");
        assert!(!text.contains("route=\"prefer-route\""), "{text}");
    }
}
