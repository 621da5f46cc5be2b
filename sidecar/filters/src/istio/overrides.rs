//! `metrics` of the configuration: what is left out of the standard metrics, and what is added.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_telemetry::{Labels, LogRecord};

use super::expression::Expression;
use super::labels::STANDARD;

/// The metrics, without their common prefix.
pub(super) const METRICS: [&str; 10] = [
    "requests_total",
    "request_duration_milliseconds",
    "request_bytes",
    "response_bytes",
    "request_messages_total",
    "response_messages_total",
    "tcp_connections_opened_total",
    "tcp_connections_closed_total",
    "tcp_sent_bytes_total",
    "tcp_received_bytes_total",
];

/// All changes, by metric.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// What is evaluated for each request.
    expressions: Vec<Expression>,
    dropped: BTreeSet<&'static str>,
    changes: BTreeMap<&'static str, Changes>,
}

/// Labels of one metric that are removed (`None`) or get the value of an expression.
type Changes = BTreeMap<Arc<str>, Option<usize>>;

impl Overrides {
    /// `drop`; `name` is empty for all metrics.
    pub(super) fn drop(&mut self, name: &str) {
        self.dropped.extend(METRICS.iter().filter(|metric| **metric == name));
    }

    /// `tags_to_remove`
    pub(super) fn remove(&mut self, name: &str, label: &str) {
        for changes in self.of(name) {
            changes.insert(label.into(), None);
        }
    }

    /// `dimensions`; a label of Istio's whose expression is not known is removed.
    pub(super) fn set(&mut self, name: &str, label: &str, expression: Option<Expression>) {
        if expression.is_none() && !STANDARD.contains(&label) {
            return;
        }
        let at = expression.map(|expression| {
            self.expressions.push(expression);
            self.expressions.len() - 1
        });
        for changes in self.of(name) {
            changes.insert(label.into(), at);
        }
    }

    fn of(&mut self, name: &str) -> impl Iterator<Item = &mut Changes> {
        let wanted = |metric: &&&'static str| name.is_empty() || **metric == name;
        for metric in METRICS.iter().filter(wanted) {
            self.changes.entry(metric).or_default();
        }
        let of_name =
            move |(metric, changes)| (name.is_empty() || metric == name).then_some(changes);
        self.changes.iter_mut().filter_map(move |(metric, changes)| of_name((*metric, changes)))
    }

    /// The values of the expressions for a request or connection.
    pub(super) fn evaluate(&self, record: &LogRecord<'_>) -> Vec<String> {
        self.expressions.iter().map(|expression| expression.evaluate(record)).collect()
    }

    /// The labels of a metric; `None`: it is dropped.
    pub(super) fn apply(&self, metric: &str, labels: &Labels, values: &[String]) -> Option<Labels> {
        if self.dropped.contains(metric) {
            return None;
        }
        let Some(changes) = self.changes.get(metric) else { return Some(labels.clone()) };
        let value = |at: usize| values.get(at).map_or("unknown", String::as_str);
        let mut changed: Labels = labels
            .iter()
            .filter_map(|(name, known)| match changes.get(name) {
                None => Some((Arc::clone(name), Arc::clone(known))),
                Some(None) => None,
                Some(Some(at)) => Some((Arc::clone(name), value(*at).into())),
            })
            .collect();
        let added = changes.iter().filter(|(name, _)| !STANDARD.contains(&&***name));
        changed
            .extend(added.filter_map(|(name, at)| Some((Arc::clone(name), value((*at)?).into()))));
        Some(changed)
    }
}
