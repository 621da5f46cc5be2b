//! Statistics.

use std::hint::black_box;

use anyhow::Result;
use weft_telemetry::Registry;

use super::{Work, each};

pub(super) fn counter() -> Result<Work> {
    let counter =
        Registry::new().scope("cluster", Some(("name", "a"))).counter("upstream_rq_total");
    each(move || counter.inc())
}

pub(super) fn histogram() -> Result<Work> {
    let histogram =
        Registry::new().scope("cluster", Some(("name", "a"))).histogram("upstream_rq_time");
    each(move || histogram.record(black_box(17)))
}
