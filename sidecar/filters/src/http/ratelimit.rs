//! `envoy.filters.http.ratelimit`: asks a service, over gRPC, whether a request exceeds a limit.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};
use weft_model::HeaderSet;
use weft_route::Fraction;
use weft_telemetry::ResponseFlag;
use weft_xds_proto::pb::envoy::config::core::v3::HeaderValue as PbHeaderValue;
use weft_xds_proto::pb::envoy::extensions::common::ratelimit::v3::{
    RateLimitDescriptor, rate_limit_descriptor::Entry as PbEntry,
};
use weft_xds_proto::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest, RateLimitResponse,
    rate_limit_response::{Code, DescriptorStatus, rate_limit::Unit},
};
use weft_xds_proto::pb::google::protobuf::UInt64Value;
use weft_xds_proto::struct_to_json;

use crate::cluster_counters::ClusterCounters;
use crate::config::GrpcTarget;
use crate::grpc::unary;
use crate::rate_limits::{HostLimits, RateLimit, RouteLimits};

pub(crate) mod config;
#[cfg(test)]
mod tests;

static RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
static INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// Which requests are counted (`request_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Internal,
    External,
    Both,
}

/// `RateLimit`, compiled.
#[derive(Debug)]
pub(crate) struct Limiter {
    domain: String,
    stage: u32,
    asks: Asks,
    timeout: Duration,
    /// `failure_mode_deny`
    fails_closed: bool,
    target: GrpcTarget,
    /// `rate_limited_as_resource_exhausted`
    exhausted: bool,
    /// `enable_x_ratelimit_headers`
    tells: bool,
    /// Unless `disable_x_envoy_ratelimited_header`.
    marks: bool,
    status: StatusCode,
    status_on_error: StatusCode,
    response_headers: Vec<HeaderSet>,
    enabled: Option<Fraction>,
    enforced: Option<Fraction>,
    /// `rate_limits`: instead of the route's.
    own: Vec<RateLimit>,
    /// `metadata_namespace`
    namespace: String,
    /// Between `ratelimit.` and the name of a counter.
    prefix: String,
    counters: ClusterCounters,
}

/// `RateLimitPerRoute`
#[derive(Debug, Default)]
pub(crate) struct PerRoute {
    host: HostLimits,
    own: Vec<RateLimit>,
    domain: Option<String>,
}

/// What the response is to carry.
#[derive(Clone)]
struct ToClient(Arc<HeaderMap>);

impl HttpFilter for Limiter {
    fn sees_responses(&self) -> bool {
        true
    }

    fn uses_io(&self) -> bool {
        true
    }

    fn reads_route(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let internal = head.headers.get(&INTERNAL).is_some_and(|value| value == "true");
        let asks = match self.asks {
            Asks::Both => true,
            Asks::Internal => internal,
            Asks::External => !internal,
        };
        let hit = self.enabled.is_none_or(|part| part.contains(fastrand::u64(..)));
        if !asks || !hit {
            return Flow::Continue;
        }
        let route = route.and_then(|route| route.downcast_ref::<PerRoute>());
        let descriptors = self.descriptors(cx, head, route);
        if descriptors.is_empty() {
            return Flow::Continue;
        }
        let domain = route.and_then(|route| route.domain.as_ref()).unwrap_or(&self.domain);
        let request =
            RateLimitRequest { domain: domain.clone(), descriptors, ..RateLimitRequest::default() };
        Flow::Await(Box::pin(self.ask(cx, head, request)))
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        if let Some(ToClient(headers)) = cx.state.get() {
            for (name, value) in &**headers {
                head.headers.append(name, value.clone());
            }
        }
        Flow::Continue
    }
}

impl Limiter {
    fn descriptors(
        &self,
        cx: &StreamCx,
        head: &RequestHead,
        route: Option<&PerRoute>,
    ) -> Vec<RateLimitDescriptor> {
        let descriptor = |limit: &RateLimit| {
            let entries = limit.entries(cx, head)?.into_iter();
            Some(RateLimitDescriptor {
                entries: entries.map(|(key, value)| PbEntry { key, value }).collect(),
                hits_addend: limit.hits.map(|value| UInt64Value { value }),
                ..RateLimitDescriptor::default()
            })
        };
        let own = route.map(|route| &route.own).filter(|own| !own.is_empty());
        let own = own.or(Some(&self.own).filter(|own| !own.is_empty()));
        if let Some(own) = own {
            return own.iter().filter_map(descriptor).collect();
        }
        let Some(limits) = RouteLimits::of(cx) else { return Vec::new() };
        let host = route.map_or(HostLimits::default(), |route| route.host);
        let staged = limits.chosen(host).filter(|limit| limit.stage == self.stage);
        staged.filter_map(descriptor).collect()
    }

    async fn ask(
        &self,
        cx: &mut StreamCx,
        head: &mut RequestHead,
        request: RateLimitRequest,
    ) -> Option<LocalReply> {
        let call = self.target.call(METHOD, self.timeout);
        let callouts = cx.io().callouts();
        let answer = match unary::<RateLimitResponse>(&*callouts, &call, &request).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, cluster = self.target.cluster, "no rate limit");
                return self.failed(cx);
            }
        };
        if let Some(said) = &answer.dynamic_metadata {
            cx.annotate().namespace_mut(&self.namespace).extend(struct_to_json(said));
        }
        let mut to_client = headers(&answer.response_headers_to_add);
        if self.tells {
            tell(&answer.statuses, &mut to_client);
        }
        let over = answer.overall_code == Code::OverLimit as i32;
        self.count(cx, if over { "over_limit" } else { "ok" });
        let enforced = self.enforced.is_none_or(|part| part.contains(fastrand::u64(..)));
        if over && enforced {
            let reply = self.refuse(cx, head, answer.raw_body.into(), to_client);
            return Some(reply);
        }
        for (name, value) in &headers(&answer.request_headers_to_add) {
            head.headers.append(name, value.clone());
        }
        if !to_client.is_empty() {
            cx.state.insert(ToClient(Arc::new(to_client)));
        }
        None
    }

    fn count(&self, cx: &StreamCx, name: &str) {
        if let Some(cluster) = &cx.cluster {
            self.counters.add(cluster, &format!("ratelimit.{}{name}", self.prefix), 1);
        }
    }

    fn failed(&self, cx: &mut StreamCx) -> Option<LocalReply> {
        self.count(cx, "error");
        if !self.fails_closed {
            self.count(cx, "failure_mode_allowed");
            return None;
        }
        cx.flags.set(ResponseFlag::RateLimitServiceError);
        Some(LocalReply::text(self.status_on_error, Bytes::new(), "rate_limiter_error"))
    }

    fn refuse(
        &self,
        cx: &mut StreamCx,
        head: &RequestHead,
        body: Bytes,
        to_client: HeaderMap,
    ) -> LocalReply {
        cx.flags.set(ResponseFlag::RateLimited);
        let mut reply = LocalReply::text(self.status, body, "request_rate_limited");
        reply.headers = to_client;
        for set in &self.response_headers {
            if let Some(value) = set.value(&cx.record(Some(head))) {
                set.action.apply(&mut reply.headers, &set.name, value);
            }
        }
        if self.marks {
            reply.headers.insert(RATE_LIMITED.clone(), HeaderValue::from_static("true"));
        }
        // Of use only where the reply becomes one of gRPC.
        let grpc = head.headers.get(http::header::CONTENT_TYPE);
        if grpc.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            let code = if self.exhausted { "8" } else { "14" };
            reply.headers.insert(GRPC_STATUS.clone(), HeaderValue::from_static(code));
        }
        reply
    }
}

fn headers(given: &[PbHeaderValue]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for one in given {
        let value = if one.raw_value.is_empty() { one.value.as_bytes() } else { &one.raw_value };
        let name = HeaderName::from_bytes(one.key.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// The headers of draft-polli-ratelimit-headers-03: of the limit that is nearest, and all of them.
fn tell(statuses: &[DescriptorStatus], headers: &mut HeaderMap) {
    let limited = || statuses.iter().filter(|status| status.current_limit.is_some());
    let Some(nearest) = limited().min_by_key(|status| status.limit_remaining) else { return };
    let mut text = String::new();
    if let Some(limit) = &nearest.current_limit {
        let _ = write!(text, "{}", limit.requests_per_unit);
    }
    for limit in limited().filter_map(|status| status.current_limit.as_ref()) {
        let Some(window) = seconds(limit.unit) else { continue };
        let _ = write!(text, ", {};w={window}", limit.requests_per_unit);
        if !limit.name.is_empty() {
            let _ = write!(text, ";name=\"{}\"", limit.name);
        }
    }
    if let Ok(text) = HeaderValue::try_from(text) {
        headers.insert(LIMIT.clone(), text);
    }
    headers.insert(REMAINING.clone(), HeaderValue::from(nearest.limit_remaining));
    let reset = nearest.duration_until_reset.as_ref().map_or(0, |reset| reset.seconds);
    headers.insert(RESET.clone(), HeaderValue::from(reset));
}

/// The length of a unit, seconds.
fn seconds(unit: i32) -> Option<u32> {
    match Unit::try_from(unit) {
        Ok(Unit::Second) => Some(1),
        Ok(Unit::Minute) => Some(60),
        Ok(Unit::Hour) => Some(3600),
        Ok(Unit::Day) => Some(86_400),
        Ok(Unit::Week) => Some(604_800),
        Ok(Unit::Month) => Some(2_592_000),
        Ok(Unit::Year) => Some(31_536_000),
        Ok(Unit::Unknown) | Err(_) => None,
    }
}
