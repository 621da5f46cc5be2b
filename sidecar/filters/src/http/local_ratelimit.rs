//! `envoy.filters.http.local_ratelimit`: so many requests in so much time, for all and for those
//! that descriptors tell apart.

pub(crate) mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};
use weft_model::HeaderSet;
use weft_route::Fraction;
use weft_telemetry::{Counter, ResponseFlag};

use crate::bucket::TokenBucket;
use crate::rate_limits::{Entry, HostLimits, RateLimit, RouteLimits};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// `LocalRateLimit`, compiled; a route's takes the place of the filter's.
#[derive(Clone, Debug)]
pub(crate) struct LocalRateLimit(Arc<Limits>);

#[derive(Debug)]
struct Limits {
    /// `None`: nothing is limited.
    bucket: Option<Arc<TokenBucket>>,
    /// Sorted by tokens a second, the strictest first.
    descriptors: Vec<Descriptor>,
    /// `rate_limits`
    rate_limits: Vec<RateLimit>,
    /// `vh_rate_limits`, for those of routes.
    host_limits: HostLimits,
    /// `stage`, for those of routes.
    stage: u32,
    status: StatusCode,
    enabled: Option<Fraction>,
    enforced: Option<Fraction>,
    /// `always_consume_default_token_bucket`
    always_default: bool,
    /// `enable_x_ratelimit_headers`
    tells: bool,
    /// `rate_limited_as_resource_exhausted`
    exhausted: bool,
    request_headers: Vec<HeaderSet>,
    response_headers: Vec<HeaderSet>,
    stats: Stats,
}

/// `LocalRateLimitDescriptor`
#[derive(Debug)]
struct Descriptor {
    entries: Vec<Entry>,
    bucket: Arc<TokenBucket>,
    /// `shadow_mode`
    shadow: bool,
}

/// `<stat_prefix>.http_local_rate_limit.*`
#[derive(Debug)]
struct Stats {
    enabled: Counter,
    enforced: Counter,
    rate_limited: Counter,
    shadow: Counter,
    ok: Counter,
}

/// The bucket that decided, for the response's headers.
#[derive(Clone)]
struct Decided(Arc<TokenBucket>);

fn hit(part: Option<Fraction>) -> bool {
    part.is_some_and(|part| part.contains(fastrand::u64(..)))
}

impl Limits {
    /// Whether the request may pass, and the bucket that says so.
    fn judge<'a>(
        &'a self,
        cx: &StreamCx,
        head: &RequestHead,
    ) -> (bool, Option<&'a Arc<TokenBucket>>) {
        let mut matched = None;
        if !self.descriptors.is_empty() {
            let asked = self.asked(cx, head);
            for descriptor in self.descriptors.iter().filter(|one| asked.contains(&one.entries)) {
                let allowed = descriptor.bucket.take();
                if !allowed && !descriptor.shadow {
                    return (false, Some(&descriptor.bucket));
                }
                if !allowed {
                    self.stats.shadow.inc();
                }
                matched.get_or_insert(&descriptor.bucket);
            }
        }
        match &self.bucket {
            Some(bucket) if matched.is_none() || self.always_default => {
                let allowed = bucket.take();
                (allowed, if allowed { matched.or(Some(bucket)) } else { Some(bucket) })
            }
            _ => (true, matched),
        }
    }

    /// The descriptors of a request: by the filter's own limits, else by those of its route.
    fn asked(&self, cx: &StreamCx, head: &RequestHead) -> Vec<Vec<Entry>> {
        let entries = |limit: &RateLimit| limit.entries(cx, head);
        if !self.rate_limits.is_empty() {
            return self.rate_limits.iter().filter_map(entries).collect();
        }
        let Some(limits) = RouteLimits::of(cx) else { return Vec::new() };
        let staged = limits.chosen(self.host_limits).filter(|limit| limit.stage == self.stage);
        staged.filter_map(entries).collect()
    }

    fn refuse(&self, cx: &mut StreamCx, head: &RequestHead) -> LocalReply {
        let mut headers = HeaderMap::new();
        for set in &self.response_headers {
            if let Some(value) = set.value(&cx.record(Some(head))) {
                set.action.apply(&mut headers, &set.name, value);
            }
        }
        cx.flags.set(ResponseFlag::RateLimited);
        let mut reply = LocalReply::text(self.status, "local_rate_limited", "local_rate_limited");
        reply.headers = headers;
        let grpc = head.headers.get(http::header::CONTENT_TYPE);
        if self.exhausted
            && grpc.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
        {
            reply.status = StatusCode::OK;
            reply.headers.insert(GRPC_STATUS.clone(), HeaderValue::from_static("8"));
            let message = HeaderValue::from_static("local_rate_limited");
            reply.headers.insert(HeaderName::from_static("grpc-message"), message);
            let grpc = HeaderValue::from_static("application/grpc");
            reply.headers.insert(http::header::CONTENT_TYPE, grpc);
            reply.body = bytes::Bytes::new();
        }
        reply
    }
}

impl HttpFilter for LocalRateLimit {
    fn reads_route(&self) -> bool {
        true
    }

    fn sees_responses(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let limits = &route.and_then(|route| route.downcast_ref::<Self>()).unwrap_or(self).0;
        if !hit(limits.enabled) {
            return Flow::Continue;
        }
        limits.stats.enabled.inc();
        let (allowed, bucket) = limits.judge(cx, head);
        if let Some(bucket) = bucket.filter(|_| limits.tells) {
            cx.state.insert(Decided(Arc::clone(bucket)));
        }
        if allowed {
            limits.stats.ok.inc();
            return Flow::Continue;
        }
        limits.stats.rate_limited.inc();
        if !hit(limits.enforced) {
            for set in &limits.request_headers {
                if let Some(value) = set.value(&cx.record(Some(head))) {
                    set.action.apply(&mut head.headers, &set.name, value);
                }
            }
            return Flow::Continue;
        }
        limits.stats.enforced.inc();
        Flow::Reply(limits.refuse(cx, head))
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let Some(Decided(bucket)) = cx.state.get() else { return Flow::Continue };
        let seconds = bucket.until_next().as_secs_f64().ceil();
        head.headers.append(&LIMIT, HeaderValue::from(bucket.max()));
        head.headers.append(&REMAINING, HeaderValue::from(bucket.remaining()));
        if let Ok(seconds) = HeaderValue::try_from(format!("{seconds:.0}")) {
            head.headers.append(&RESET, seconds);
        }
        Flow::Continue
    }
}
