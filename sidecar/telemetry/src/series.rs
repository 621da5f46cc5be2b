//! Statistics with label sets of their own, such as Istio's: their names are not Envoy's, and which
//! of them there are is known only to traffic.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::stats::{Counter, Histogram, Metric, MetricName, Registry};

/// The labels of a series with their values, in the order in which they are shown.
pub type Labels = Vec<(Arc<str>, Arc<str>)>;

/// What stands before the names of series in Envoy's own form of statistics.
const NAMESPACE: &str = "istiocustom";
/// Series that may exist at a time: their labels come from traffic.
const MOST_SERIES: usize = 20_000;
/// How many series could not be made.
const REFUSED: &str = "series_refused";

impl Registry {
    /// The counter of this name with these labels; the same one each time. `None`: there are as many
    /// series as may be.
    #[must_use]
    pub fn labelled_counter(&self, name: &str, labels: &Labels) -> Option<Counter> {
        match self.series(name, labels, || Metric::Counter(Counter::new()))? {
            Metric::Counter(counter) => Some(counter),
            Metric::Gauge(_) | Metric::Histogram(_) => None,
        }
    }

    /// The histogram of this name with these labels, as [`Self::labelled_counter`].
    #[must_use]
    pub fn labelled_histogram(&self, name: &str, labels: &Labels) -> Option<Histogram> {
        match self.series(name, labels, || Metric::Histogram(Histogram::new()))? {
            Metric::Histogram(histogram) => Some(histogram),
            Metric::Counter(_) | Metric::Gauge(_) => None,
        }
    }

    /// Forgets the series that nobody holds any more.
    pub fn forget_unheld_series(&self) {
        let known = self.known();
        let mut all = known.all.write();
        let before = all.len();
        all.retain(|name, metric| name.labels.is_empty() || metric.is_held());
        known.series.fetch_sub(before - all.len(), Ordering::Relaxed);
    }

    fn series(&self, name: &str, labels: &Labels, new: impl FnOnce() -> Metric) -> Option<Metric> {
        let name = MetricName {
            prefix: NAMESPACE.to_owned(),
            tag: None,
            suffix: name.to_owned(),
            labels: labels.clone(),
        };
        let known = self.known();
        let mut all = known.all.write();
        if let Some(metric) = all.get(&name) {
            return Some(metric.clone());
        }
        if known.series.load(Ordering::Relaxed) >= MOST_SERIES {
            drop(all);
            self.scope("telemetry", None).counter(REFUSED).inc();
            return None;
        }
        known.series.fetch_add(1, Ordering::Relaxed);
        Some(all.entry(name).or_insert_with(new).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StatsQuery, prometheus_text};

    fn labels(value: &str) -> Labels {
        vec![("reporter".into(), "source".into()), ("app".into(), value.into())]
    }

    #[test]
    fn a_series_is_shown_under_its_own_name_with_all_labels() {
        let registry = Registry::new();
        let counter = registry.labelled_counter("istio_requests_total", &labels("a\"b"));
        counter.expect("there is room").add(3);
        let text = prometheus_text(&registry.all(), &StatsQuery::default());
        assert_eq!(
            text,
            "# TYPE istio_requests_total counter\n\
             istio_requests_total{reporter=\"source\",app=\"a\\\"b\"} 3\n"
        );
        let dotted = registry.all()[0].0.dotted();
        assert_eq!(dotted, "istiocustom.istio_requests_total.reporter.source.app.a\"b");
    }

    #[test]
    fn series_that_nobody_holds_are_forgotten() {
        let registry = Registry::new();
        let held = registry.labelled_counter("a", &labels("held")).expect("there is room");
        drop(registry.labelled_histogram("a", &labels("gone")));
        let fixed = registry.scope("server", None).counter("live");
        registry.forget_unheld_series();
        let left: Vec<_> = registry.all().into_iter().map(|(name, _)| name.suffix).collect();
        assert_eq!(left, ["a", "live"]);
        drop((held, fixed));
    }

    #[test]
    fn series_beyond_the_limit_are_refused_and_counted() {
        let registry = Registry::new();
        registry.known().series.store(MOST_SERIES, Ordering::Relaxed);
        assert!(registry.labelled_counter("a", &labels("x")).is_none());
        assert_eq!(registry.scope("telemetry", None).counter(REFUSED).value(), 1);
    }
}
