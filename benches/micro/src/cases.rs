//! What is counted.

mod configuration;
mod matching;
mod request;
mod support;
mod telemetry;

use anyhow::{Context, Result};

/// Does so many units.
pub(crate) type Work = Box<dyn FnMut(u32)>;

/// One thing that is counted.
pub(crate) struct Case {
    /// Its name in the baseline.
    pub(crate) name: &'static str,
    /// What one unit is, for people.
    pub(crate) what: &'static str,
    /// Units that are counted together.
    pub(crate) units: u32,
    /// Everything that comes before.
    pub(crate) prepare: fn() -> Result<Work>,
}

const fn case(
    name: &'static str,
    what: &'static str,
    units: u32,
    prepare: fn() -> Result<Work>,
) -> Case {
    Case { name, what, units, prepare }
}

/// Every case; a new one needs a line here and `make bench-micro MICRO=renew`.
pub(crate) const CASES: &[Case] = &[
    case("route_first", "lookup of the first of 10,000 routes", 1000, matching::route_first),
    case("route_last", "lookup of the last of 10,000 routes", 1000, matching::route_last),
    case(
        "route_wildcard",
        "lookup by one of 10,000 wildcard hosts",
        1000,
        matching::route_wildcard,
    ),
    case("chain_match", "one of 200 filter chains, by server name", 1000, matching::chain),
    case("pick_round_robin", "an endpoint of 100, in turn", 1000, matching::round_robin),
    case(
        "pick_least_request",
        "an endpoint of 100, the less busy of two",
        1000,
        matching::least_request,
    ),
    case("counter_inc", "a counter goes up by one", 1000, telemetry::counter),
    case("histogram_record", "a value goes into a histogram", 1000, telemetry::histogram),
    case(
        "ads_delta",
        "one changed resource of 1,000, received and acknowledged",
        200,
        configuration::ads_delta,
    ),
    case(
        "cluster_apply",
        "one changed cluster of 1,000, decoded, compiled, published",
        50,
        configuration::cluster_change,
    ),
    case(
        "endpoints_apply",
        "the changed endpoints of one cluster of 1,000",
        50,
        configuration::endpoint_change,
    ),
    case("request_http1", "a request over HTTP/1.1 to HTTP/1.1, proxy only", 200, request::http1),
    case("request_normalised", "the same with a path to normalise", 200, request::http1_normalised),
    case(
        "request_logged",
        "the same with a line of Envoy's default log format",
        200,
        request::http1_logged,
    ),
    case(
        "request_mutated",
        "the same with 50 changes to its headers by a filter",
        200,
        request::http1_mutated,
    ),
    case("request_http2", "a request over HTTP/2 to HTTP/2, proxy only", 200, request::http2),
];

/// The case of that name.
pub(crate) fn named(name: &str) -> Result<&'static Case> {
    CASES.iter().find(|case| case.name == name).with_context(|| format!("no case {name:?}"))
}

/// Work that does one unit at a time.
fn each(mut unit: impl FnMut() + 'static) -> Result<Work> {
    Ok(Box::new(move |units| (0..units).for_each(|_| unit())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_can_be_prepared_and_run() {
        for case in CASES {
            let mut work = (case.prepare)().unwrap_or_else(|e| panic!("{}: {e:#}", case.name));
            work(3);
        }
    }
}
