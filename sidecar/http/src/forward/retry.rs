//! When a request is tried again (`RetryPolicy`).

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, Method, StatusCode};
use smallvec::SmallVec;
use weft_model::{Labels, RateLimitedBackOff, ResetFormat, RetryOn, RetryPolicy};
use weft_route::RequestView;
use weft_upstream::{RetryPermit, UpstreamError, WorkerCluster};

use super::failure::Failure;
use crate::names;
use crate::stream::Stream;
use crate::timer::Expired;

/// The retries of one request.
pub(super) struct Retries<'a> {
    policy: Option<&'a RetryPolicy>,
    used: u32,
    /// Hosts of earlier tries.
    hosts: SmallVec<[SocketAddr; 2]>,
    /// How long the last response asked to wait, at least.
    asked: Option<Duration>,
    /// Counts the retry that is in flight against the circuit breaker.
    permit: Option<RetryPermit>,
}

impl<'a> Retries<'a> {
    /// No try was made yet.
    pub(super) fn new(policy: Option<&'a RetryPolicy>) -> Self {
        Self { policy, used: 0, hosts: SmallVec::new(), asked: None, permit: None }
    }

    /// Whether another try could follow.
    pub(super) fn is_left(&self) -> bool {
        self.policy.is_some_and(|policy| self.used < policy.retries)
    }

    /// Whether the next try is a retry.
    pub(super) fn is_retrying(&self) -> bool {
        self.used > 0
    }

    /// A try goes to this host.
    pub(super) fn goes_to(&mut self, host: Option<SocketAddr>) {
        if self.policy.is_some_and(|policy| policy.avoid_previous_hosts) {
            self.hosts.extend(host);
        }
    }

    /// Hosts to avoid, and how often to choose again for that.
    pub(super) fn avoid(&self) -> (&[SocketAddr], u32) {
        (&self.hosts, self.policy.map_or(0, |policy| policy.host_attempts))
    }

    /// Whether this try avoids canaries, and which labels it avoids.
    pub(super) fn avoid_kinds(&self) -> (bool, Option<&Labels>) {
        match self.policy.filter(|_| self.is_retrying()) {
            Some(policy) => (policy.avoid_canaries, policy.avoid_labels.as_ref()),
            None => (false, None),
        }
    }

    /// Whether the policy covers a response.
    pub(super) fn covers_response(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.policy.is_some_and(|policy| covers_response(policy, status, headers))
    }

    /// Notes how long a response asks to wait before the next try.
    pub(super) fn heed(&mut self, headers: &HeaderMap) {
        let limits = self.policy.and_then(|policy| policy.rate_limited.as_deref());
        self.asked = limits.and_then(|limits| asked_pause(limits, headers, SystemTime::now()));
    }

    /// Whether the policy covers a failure.
    pub(super) fn covers_failure(&self, failure: &Failure) -> bool {
        self.policy.is_some_and(|policy| covers_failure(policy.on, failure))
    }

    /// Asks for another try and waits for its time.
    ///
    /// # Errors
    /// A time limit of the stream was passed meanwhile.
    pub(super) async fn again(
        &mut self,
        cluster: &WorkerCluster,
        high_priority: bool,
        stream: &mut Stream,
    ) -> Result<bool, Expired> {
        let Some(policy) = self.policy else { return Ok(false) };
        if self.used >= policy.retries {
            cluster.handle().stats().rq_retry_limit_exceeded.inc();
            stream.cx.flags.set(weft_telemetry::ResponseFlag::UpstreamRetryLimitExceeded);
            return Ok(false);
        }
        self.permit = None;
        self.permit = cluster.start_retry(high_priority);
        if self.permit.is_none() {
            return Ok(false);
        }
        self.used += 1;
        stream.timer.limit_try(None);
        stream.timer.set_trying(false);
        let pause = match self.asked.take() {
            // At least that long, and up to half of it more.
            Some(asked) => asked.mul_f64(1.0 + fastrand::f64() / 2.0),
            None => back_off(policy, self.used, fastrand::f64()),
        };
        let mut until = stream.connection.worker.timers.after(Some(pause));
        poll_fn(|cx| {
            if until.poll_due(cx).is_ready() {
                return Poll::Ready(Ok(true));
            }
            stream.poll_timer(cx).map(Err)
        })
        .await
    }
}

/// How long a response asks to wait, where it says so and that is not too long.
fn asked_pause(
    limits: &RateLimitedBackOff,
    headers: &HeaderMap,
    now: SystemTime,
) -> Option<Duration> {
    let pause = |(name, format): &(HeaderName, ResetFormat)| {
        let seconds = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
        match format {
            ResetFormat::Seconds => Some(Duration::from_secs(seconds)),
            ResetFormat::UnixTimestamp => {
                let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
                at.duration_since(now).ok()
            }
        }
    };
    let said = limits.headers.iter().filter_map(pause);
    let mut fitting = said.filter(|pause| *pause <= limits.max);
    fitting.next().filter(|pause| !pause.is_zero())
}

/// A random part of an interval that doubles with each retry, up to the longest.
fn back_off(policy: &RetryPolicy, retry: u32, random: f64) -> Duration {
    let doubled = 2u32.saturating_pow(retry.min(16)).saturating_sub(1);
    policy.base_interval.saturating_mul(doubled).min(policy.max_interval).mul_f64(random)
}

fn covers_failure(on: RetryOn, failure: &Failure) -> bool {
    const ANY_RESET: u32 = RetryOn::SERVER_ERROR | RetryOn::GATEWAY_ERROR | RetryOn::RESET;
    match failure {
        // Trying again would make an overload worse, and nothing is there to try.
        Failure::Upstream(
            UpstreamError::Overflow(_)
            | UpstreamError::NoHealthyUpstream
            | UpstreamError::DropOverload
            | UpstreamError::RequestBody,
        ) => false,
        Failure::Upstream(error) => {
            on.any(ANY_RESET)
                || (error.is_connect_failure() && on.any(RetryOn::CONNECT_FAILURE))
                || (error.request_unseen() && on.any(RetryOn::RESET_BEFORE_REQUEST))
                || (error.is_refused_stream() && on.any(RetryOn::REFUSED_STREAM))
        }
        Failure::Expired(Expired::Try | Expired::TryIdle) => on.any(ANY_RESET),
        Failure::Expired(
            Expired::Response | Expired::Idle | Expired::Duration | Expired::Request,
        ) => false,
    }
}

fn covers_response(policy: &RetryPolicy, status: StatusCode, headers: &HeaderMap) -> bool {
    let on = policy.on;
    if headers.contains_key(names::ENVOY_OVERLOADED) {
        return false;
    }
    if headers.contains_key(names::ENVOY_RATE_LIMITED) {
        return on.any(RetryOn::RATE_LIMITED);
    }
    let code = status.as_u16();
    (on.any(RetryOn::SERVER_ERROR) && status.is_server_error())
        || (on.any(RetryOn::GATEWAY_ERROR) && matches!(code, 502..=504))
        || (on.any(RetryOn::RETRIABLE_4XX) && code == 409)
        || (on.any(RetryOn::STATUS_CODES) && policy.status_codes.contains(&code))
        || (on.any(RetryOn::HEADERS) && has_retriable_header(policy, headers))
        || covers_grpc(on, headers)
}

fn has_retriable_header(policy: &RetryPolicy, headers: &HeaderMap) -> bool {
    let view = RequestView {
        method: &Method::GET,
        scheme: "",
        authority: "",
        path: "",
        query: None,
        headers,
        random: 0,
        around: None,
    };
    policy.headers.iter().any(|matcher| matcher.holds(&view))
}

/// `grpc-status` in the response's head: there is nothing but trailers.
fn covers_grpc(on: RetryOn, headers: &HeaderMap) -> bool {
    const ALL: u32 = RetryOn::GRPC_CANCELLED
        | RetryOn::GRPC_DEADLINE
        | RetryOn::GRPC_INTERNAL
        | RetryOn::GRPC_EXHAUSTED
        | RetryOn::GRPC_UNAVAILABLE;
    if !on.any(ALL) {
        return false;
    }
    let bit = match headers.get(names::GRPC_STATUS).map(http::HeaderValue::as_bytes) {
        Some(b"1") => RetryOn::GRPC_CANCELLED,
        Some(b"4") => RetryOn::GRPC_DEADLINE,
        Some(b"8") => RetryOn::GRPC_EXHAUSTED,
        Some(b"13") => RetryOn::GRPC_INTERNAL,
        Some(b"14") => RetryOn::GRPC_UNAVAILABLE,
        _ => return false,
    };
    on.any(bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(on: u32) -> RetryPolicy {
        RetryPolicy {
            on: RetryOn(on),
            retries: 2,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            status_codes: SmallVec::from_slice(&[418]),
            headers: Vec::new(),
            base_interval: Duration::from_millis(25),
            max_interval: Duration::from_millis(250),
            rate_limited: None,
            avoid_previous_hosts: false,
            avoid_canaries: false,
            avoid_labels: None,
            host_attempts: 1,
        }
    }

    #[test]
    fn each_word_covers_its_responses() {
        let covers = |on, code| {
            let status = StatusCode::from_u16(code).unwrap();
            covers_response(&policy(on), status, &HeaderMap::new())
        };
        assert!(covers(RetryOn::SERVER_ERROR, 500) && !covers(RetryOn::SERVER_ERROR, 499));
        assert!(covers(RetryOn::GATEWAY_ERROR, 502) && !covers(RetryOn::GATEWAY_ERROR, 500));
        assert!(covers(RetryOn::RETRIABLE_4XX, 409) && !covers(RetryOn::RETRIABLE_4XX, 404));
        assert!(covers(RetryOn::STATUS_CODES, 418) && !covers(RetryOn::STATUS_CODES, 503));
    }

    #[test]
    fn an_overloaded_upstream_is_left_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(names::ENVOY_OVERLOADED, http::HeaderValue::from_static("true"));
        let status = StatusCode::SERVICE_UNAVAILABLE;
        assert!(!covers_response(&policy(RetryOn::SERVER_ERROR), status, &headers));
    }

    #[test]
    fn grpc_words_cover_grpc_statuses() {
        let mut headers = HeaderMap::new();
        headers.insert(names::GRPC_STATUS, http::HeaderValue::from_static("14"));
        assert!(covers_response(&policy(RetryOn::GRPC_UNAVAILABLE), StatusCode::OK, &headers));
        assert!(!covers_response(&policy(RetryOn::GRPC_INTERNAL), StatusCode::OK, &headers));
    }

    #[test]
    fn failures_are_covered_by_kind() {
        let refused = Failure::Upstream(UpstreamError::Reset { reason: "x".into(), refused: true });
        assert!(covers_failure(RetryOn(RetryOn::REFUSED_STREAM), &refused));
        assert!(!covers_failure(RetryOn(RetryOn::CONNECT_FAILURE), &refused));
        assert!(covers_failure(RetryOn(RetryOn::SERVER_ERROR), &refused));
        let late = Failure::Expired(Expired::Try);
        assert!(covers_failure(RetryOn(RetryOn::GATEWAY_ERROR), &late));
        assert!(!covers_failure(RetryOn(RetryOn::SERVER_ERROR), &Failure::Expired(Expired::Idle)));
    }

    #[test]
    fn a_response_may_ask_for_a_pause_that_is_not_too_long() {
        let limits = RateLimitedBackOff {
            headers: vec![
                (HeaderName::from_static("retry-after"), ResetFormat::Seconds),
                (HeaderName::from_static("x-reset"), ResetFormat::UnixTimestamp),
            ],
            max: Duration::from_secs(60),
        };
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        for (name, value, expected) in [
            ("retry-after", "5", Some(5)),
            ("retry-after", "61", None),
            ("retry-after", "0", None),
            ("retry-after", "soon", None),
            ("x-reset", "1030", Some(30)),
            ("x-reset", "999", None),
            ("x-other", "1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, http::HeaderValue::from_static(value));
            let pause = asked_pause(&limits, &headers, now);
            assert_eq!(pause, expected.map(Duration::from_secs), "{name}: {value}");
        }
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let policy = policy(0);
        let pauses: Vec<_> =
            (1..=5).map(|retry| back_off(&policy, retry, 1.0).as_millis()).collect();
        assert_eq!(pauses, [25, 75, 175, 250, 250]);
        assert_eq!(back_off(&policy, 3, 0.0), Duration::ZERO);
    }
}
