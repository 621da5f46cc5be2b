//! The time limits of a request: of its route, its headers and its connection manager.

use std::cell::RefCell;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use weft_model::Forward;

use crate::manager::Plan;
use crate::names;
use crate::stream::Stream;

/// Limits that begin when the request has been received whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// For the whole exchange.
    pub(crate) response: Option<Duration>,
    /// For one try.
    pub(crate) one_try: Option<Duration>,
}

/// Finds the limits and sets those that hold at once.
pub(super) fn limits(plan: &Plan<'_>, action: &Forward, stream: &mut Stream) -> Limits {
    let headers = &mut stream.head.headers;
    if let Some(idle) = action.idle_timeout {
        stream.timer.limit_idle(idle);
    }
    if let Some(longest) = action.max_stream_duration.filter(|longest| !longest.is_zero()) {
        let started = stream.cx.started;
        stream.timer.limit_duration(started.checked_add(longest));
    }
    if plan.kind.grpc
        && let Some(max) = action.grpc_duration_max
        && let Some(longest) = grpc_wanted(headers, max)
    {
        let started = stream.cx.started;
        stream.timer.limit_duration(started.checked_add(longest));
    }
    let one_try = action.retry.as_ref().and_then(|retry| retry.per_try_timeout);
    let try_idle = action.retry.as_ref().and_then(|retry| retry.per_try_idle_timeout);
    if try_idle.is_some() {
        stream.timer.limit_try_idle(try_idle);
    }
    let mut limits = Limits { response: action.timeout, one_try };
    if plan.kind.grpc
        && let Some(max) = action.grpc_timeout_max
    {
        limits.response = grpc_limit(headers, max);
    }
    // Filters may have added some.
    if plan.kind.steers || !plan.connection.manager.filters.is_empty() {
        if let Some(header) = take_millis(headers, &names::ENVOY_TIMEOUT) {
            limits.response = Some(header);
        }
        if let Some(header) = take_millis(headers, &names::ENVOY_PER_TRY_TIMEOUT) {
            limits.one_try = Some(header);
        }
    }
    limits.response = limits.response.filter(|limit| !limit.is_zero());
    limits.one_try = limits.one_try.filter(|limit| !limit.is_zero());
    if let (Some(response), Some(one_try)) = (limits.response, limits.one_try)
        && one_try >= response
    {
        limits.one_try = None;
    }
    limits
}

fn take_millis(headers: &mut HeaderMap, name: &HeaderName) -> Option<Duration> {
    let millis = headers.remove(name)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

/// `grpc-timeout`, up to `max` unless that is zero; `max` where the caller sets no limit.
fn grpc_limit(headers: &HeaderMap, max: Duration) -> Option<Duration> {
    match grpc_wanted(headers, max) {
        Some(wanted) if max.is_zero() || !wanted.is_zero() => Some(wanted),
        _ => Some(max),
    }
}

/// `grpc-timeout`, up to `max` unless that is zero.
fn grpc_wanted(headers: &HeaderMap, max: Duration) -> Option<Duration> {
    let wanted = headers.get(names::GRPC_TIMEOUT).and_then(|value| value.to_str().ok());
    let wanted = wanted.and_then(parse_grpc_timeout)?;
    Some(if max.is_zero() { wanted } else { wanted.min(max) })
}

/// At most eight digits and a unit (gRPC over HTTP/2, Timeout).
fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

thread_local! {
    /// The limit written last: requests in a row usually have the same.
    static ANNOUNCED: RefCell<Option<(Duration, HeaderValue)>> = const { RefCell::new(None) };
}

/// Tells the upstream how long it has (`x-envoy-expected-rq-timeout-ms`).
pub(super) fn announce(headers: &mut HeaderMap, limit: Duration) {
    let value = ANNOUNCED.with_borrow_mut(|known| match known {
        Some((known, value)) if *known == limit => value.clone(),
        _ => {
            let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            let value = HeaderValue::from(millis);
            *known = Some((limit, value.clone()));
            value
        }
    });
    headers.insert(names::ENVOY_EXPECTED_TIMEOUT, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_read() {
        for (text, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("1H", Some(Duration::from_secs(3600))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("123456789S", None),
            ("S", None),
            ("5", None),
            ("", None),
            ("5é", None),
        ] {
            assert_eq!(parse_grpc_timeout(text), expected, "{text:?}");
        }
    }

    #[test]
    fn grpc_timeouts_are_capped() {
        let mut headers = HeaderMap::new();
        let max = Duration::from_secs(2);
        assert_eq!(grpc_limit(&headers, max), Some(max));
        headers.insert(names::GRPC_TIMEOUT, HeaderValue::from_static("1S"));
        assert_eq!(grpc_limit(&headers, max), Some(Duration::from_secs(1)));
        headers.insert(names::GRPC_TIMEOUT, HeaderValue::from_static("9S"));
        assert_eq!(grpc_limit(&headers, max), Some(max));
        assert_eq!(grpc_limit(&headers, Duration::ZERO), Some(Duration::from_secs(9)));
    }
}
