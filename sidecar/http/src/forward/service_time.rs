//! `x-envoy-upstream-service-time`.

use std::sync::LazyLock;
use std::time::Duration;

use http::HeaderValue;

/// Values for the times that most responses take: cloning one of them copies nothing.
static SHORT: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    (0..64u64).map(|millis| HeaderValue::from_static(millis.to_string().leak())).collect()
});

/// The header's value: milliseconds.
pub(super) fn value(time: Duration) -> HeaderValue {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let short = usize::try_from(millis).ok().and_then(|millis| SHORT.get(millis));
    short.cloned().unwrap_or_else(|| HeaderValue::from(millis))
}
