//! Statistics as text: Envoy's own form, its JSON form and Prometheus' exposition format.

use std::fmt::Write as _;

use regex::Regex;

use crate::stats::{BUCKETS, Histogram, Metric, MetricName};

/// Which statistics are shown.
#[derive(Clone, Debug, Default)]
pub struct StatsQuery {
    /// `usedonly`: those that were ever written.
    pub used_only: bool,
    /// `filter`: those whose dotted name matches somewhere.
    pub filter: Option<Regex>,
}

impl StatsQuery {
    fn selects(&self, name: &str, metric: &Metric) -> bool {
        let used = match metric {
            Metric::Counter(counter) => counter.value() != 0,
            Metric::Gauge(gauge) => gauge.value() != 0,
            Metric::Histogram(histogram) => histogram.counts().iter().any(|count| *count != 0),
        };
        (used || !self.used_only) && self.filter.as_ref().is_none_or(|filter| filter.is_match(name))
    }
}

fn selected<'a>(
    metrics: &'a [(MetricName, Metric)],
    query: &'a StatsQuery,
) -> impl Iterator<Item = (String, &'a MetricName, &'a Metric)> {
    metrics.iter().filter_map(|(name, metric)| {
        let dotted = name.dotted();
        query.selects(&dotted, metric).then_some((dotted, name, metric))
    })
}

/// Envoy's `/stats`: `name: value`, one a line, sorted; histograms as quantiles.
#[must_use]
pub fn stats_text(metrics: &[(MetricName, Metric)], query: &StatsQuery) -> String {
    let mut lines: Vec<String> = selected(metrics, query)
        .map(|(dotted, _, metric)| match metric {
            Metric::Counter(counter) => format!("{dotted}: {}\n", counter.value()),
            Metric::Gauge(gauge) => format!("{dotted}: {}\n", gauge.value()),
            Metric::Histogram(histogram) => format!("{dotted}: {}\n", quantiles(histogram)),
        })
        .collect();
    lines.sort_unstable();
    lines.concat()
}

/// Envoy's `/stats?format=json`: `{"stats": [{"name", "value"}, …]}`.
#[must_use]
pub fn stats_json(metrics: &[(MetricName, Metric)], query: &StatsQuery) -> serde_json::Value {
    let stats: Vec<_> = selected(metrics, query)
        .map(|(dotted, _, metric)| match metric {
            Metric::Counter(counter) => {
                serde_json::json!({"name": dotted, "value": counter.value()})
            }
            Metric::Gauge(gauge) => serde_json::json!({"name": dotted, "value": gauge.value()}),
            Metric::Histogram(histogram) => {
                serde_json::json!({"name": dotted, "value": quantiles(histogram)})
            }
        })
        .collect();
    serde_json::json!({ "stats": stats })
}

/// The bucket bounds within which the quantiles lie, as Envoy's summary names them.
fn quantiles(histogram: &Histogram) -> String {
    let counts = histogram.counts();
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return "No recorded values".to_owned();
    }
    let at = |quantile: f64| {
        // A rank within the counted values: no precision is lost that matters here.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let rank = ((total as f64) * quantile).ceil() as u64;
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen >= rank.max(1)
        });
        match bucket.map(|bucket| BUCKETS[bucket]) {
            Some(u64::MAX) | None => "inf".to_owned(),
            Some(bound) => bound.to_string(),
        }
    };
    let shown = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0];
    let parts: Vec<_> =
        shown.iter().map(|quantile| format!("P{}({})", quantile * 100.0, at(*quantile))).collect();
    parts.join(" ")
}

/// Prometheus' text format 0.0.4, with Envoy's metric and label names.
#[must_use]
pub fn prometheus_text(metrics: &[(MetricName, Metric)], query: &StatsQuery) -> String {
    let mut rows: Vec<(String, String, &Metric)> = selected(metrics, query)
        .map(|(_, name, metric)| (metric_name(name), labels(name), metric))
        .collect();
    rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let mut out = String::new();
    let mut family = "";
    for (name, labels, metric) in &rows {
        if family != name {
            family = name;
            // Writing to a string can't fail; so below.
            let _ = writeln!(out, "# TYPE {name} {}", kind(metric));
        }
        match metric {
            Metric::Counter(counter) => sample(&mut out, name, labels, counter.value()),
            Metric::Gauge(gauge) => sample(&mut out, name, labels, gauge.value()),
            Metric::Histogram(histogram) => buckets(&mut out, name, labels, histogram),
        }
    }
    out
}

fn kind(metric: &Metric) -> &'static str {
    match metric {
        Metric::Counter(_) => "counter",
        Metric::Gauge(_) => "gauge",
        Metric::Histogram(_) => "histogram",
    }
}

fn sample(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    };
}

fn buckets(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut sum = 0;
    for (bound, count) in BUCKETS.iter().zip(histogram.counts()) {
        sum += count;
        let bound = if *bound == u64::MAX { "+Inf".to_owned() } else { bound.to_string() };
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {sum}");
    }
    sample(out, &format!("{name}_sum"), labels, histogram.sum());
    sample(out, &format!("{name}_count"), labels, sum);
}

/// A name's end without the response code in it, and the label that has it instead.
fn without_code(suffix: &str) -> (String, Option<String>) {
    let Some((rest, last)) = suffix.rsplit_once('_').filter(|(rest, _)| rest.ends_with("_rq"))
    else {
        return (suffix.to_owned(), None);
    };
    let is_code = |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    match last.strip_suffix("xx") {
        Some(class) if class.len() == 1 => {
            (format!("{rest}_xx"), Some(format!("envoy_response_code_class=\"{class}\"")))
        }
        _ if is_code(last) => (rest.to_owned(), Some(format!("envoy_response_code=\"{last}\""))),
        _ => (suffix.to_owned(), None),
    }
}

fn metric_name(name: &MetricName) -> String {
    if !name.labels.is_empty() {
        return name.suffix.clone();
    }
    let parts = ["envoy", &name.prefix, &without_code(&name.suffix).0];
    let joined = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_");
    joined.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn labels(name: &MetricName) -> String {
    if !name.labels.is_empty() {
        let each = name.labels.iter().map(|(name, value)| label(name, value));
        return each.collect::<Vec<_>>().join(",");
    }
    let tag = name.tag.as_ref().map(|(name, value)| label(name, value));
    let labels = [without_code(&name.suffix).1, tag];
    labels.into_iter().flatten().collect::<Vec<_>>().join(",")
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;

    fn registry() -> Registry {
        let registry = Registry::new();
        let scope = registry.scope("cluster", Some(("envoy_cluster_name", "a\"b")));
        scope.counter("upstream_rq_total").add(3);
        scope.counter("upstream_rq_2xx").add(2);
        scope.counter("upstream_rq_204").add(1);
        scope.gauge("upstream_cx_active").inc();
        scope.histogram("upstream_rq_time").record(7);
        registry.scope("server", None).gauge("live").set(1);
        registry
    }

    #[test]
    fn prometheus_text_has_families_labels_and_cumulative_buckets() {
        let text = prometheus_text(&registry().all(), &StatsQuery::default());
        for line in [
            "# TYPE envoy_cluster_upstream_rq_total counter",
            "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"a\\\"b\"} 3",
            "envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"2\",envoy_cluster_name=\"a\\\"b\"} 2",
            "envoy_cluster_upstream_rq{envoy_response_code=\"204\",envoy_cluster_name=\"a\\\"b\"} 1",
            "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"a\\\"b\",le=\"5\"} 0",
            "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"a\\\"b\",le=\"+Inf\"} 1",
            "envoy_cluster_upstream_rq_time_sum{envoy_cluster_name=\"a\\\"b\"} 7",
            "envoy_server_live 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn text_and_json_use_dotted_names_and_filters() {
        let metrics = registry().all();
        let filter = Some(Regex::new("rq_total|live").expect("an expression"));
        let query = StatsQuery { used_only: true, filter };
        assert_eq!(
            stats_text(&metrics, &query),
            "cluster.a\"b.upstream_rq_total: 3\nserver.live: 1\n"
        );
        let json = stats_json(&metrics, &query);
        assert_eq!(json["stats"][0]["value"], 3);
    }
}
