//! `envoy.filters.http.ext_authz`: asks a service, over gRPC or HTTP, whether a request may pass.

mod ask;
pub(crate) mod config;
mod grpc;
mod service;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderName, HeaderValue, StatusCode};
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};
use weft_route::{Fraction, StringMatcher};
use weft_telemetry::{Counter, ResponseFlag};

use crate::config::GrpcTarget;
use crate::values::MetadataMatcher;
use ask::Question;
use service::HttpService;
use verdict::{Changes, Denial, HeaderChange, Verdict};

static PARTIAL: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");
static FAILED_OPEN: HeaderName = HeaderName::from_static("x-envoy-auth-failure-mode-allowed");

/// The namespace of what the service says for other filters.
const NAMESPACE: &str = "envoy.filters.http.ext_authz";

/// `ExtAuthz`, compiled.
#[derive(Debug)]
pub(crate) struct ExtAuthz {
    service: Service,
    /// `failure_mode_allow`
    fails_open: bool,
    /// `failure_mode_allow_header_add`
    tells_failure: bool,
    body: Option<BodySettings>,
    /// `clear_route_cache`
    clear_route: bool,
    status_on_error: StatusCode,
    /// `allowed_headers`; `None`: all for gRPC, the needed ones for HTTP.
    allowed: Option<Vec<StringMatcher>>,
    disallowed: Vec<StringMatcher>,
    /// `metadata_context_namespaces`
    namespaces: Vec<String>,
    enabled: Option<Fraction>,
    enabled_metadata: Option<MetadataMatcher>,
    deny_at_disable: bool,
    include_certificate: bool,
    include_session: bool,
    raw_headers: bool,
    /// `enable_dynamic_metadata_ingestion`
    takes_metadata: bool,
    validates: bool,
    /// `max_denied_response_body_bytes`; zero: no limit.
    longest_denial: usize,
    stats: Stats,
}

/// Who is asked.
#[derive(Clone, Debug)]
enum Service {
    Grpc(GrpcTarget),
    Http(Arc<HttpService>),
}

/// `BufferSettings`
#[derive(Clone, Copy, Debug)]
struct BodySettings {
    /// `max_request_bytes`
    longest: usize,
    /// `allow_partial_message`
    partial: bool,
    /// `pack_as_bytes`
    as_bytes: bool,
}

/// `ExtAuthzPerRoute`
#[derive(Debug)]
pub(crate) enum PerRoute {
    /// `disabled`
    Disabled,
    /// `check_settings`
    Settings(Box<RouteSettings>),
}

/// `CheckSettings`
#[derive(Debug)]
pub(crate) struct RouteSettings {
    context: BTreeMap<String, String>,
    /// `disable_request_body_buffering`
    without_body: bool,
    body: Option<BodySettings>,
    service: Option<Service>,
}

/// `http.<prefix>.ext_authz.*`
#[derive(Debug)]
struct Stats {
    ok: Counter,
    denied: Counter,
    error: Counter,
    disabled: Counter,
    failure_mode_allowed: Counter,
    invalid: Counter,
}

/// What the response is to carry.
#[derive(Clone)]
struct ToClient(Arc<[HeaderChange]>);

impl HttpFilter for ExtAuthz {
    fn sees_responses(&self) -> bool {
        true
    }

    fn uses_io(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let settings = match route.and_then(|route| route.downcast_ref::<PerRoute>()) {
            Some(PerRoute::Disabled) => return Flow::Continue,
            Some(PerRoute::Settings(settings)) => Some(&**settings),
            None => None,
        };
        if !self.is_enabled(cx) {
            self.stats.disabled.inc();
            return if self.deny_at_disable {
                Flow::Reply(self.refuse(cx, Denial::of(self.status_on_error), "ext_authz_error"))
            } else {
                Flow::Continue
            };
        }
        Flow::Await(Box::pin(self.check(cx, head, settings)))
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        if let Some(ToClient(changes)) = cx.state.get() {
            changes.iter().for_each(|change| change.apply(&mut head.headers));
        }
        Flow::Continue
    }
}

impl ExtAuthz {
    fn is_enabled(&self, cx: &StreamCx) -> bool {
        let all = cx.annotations.as_deref();
        self.enabled.is_none_or(|part| part.contains(fastrand::u64(..)))
            && self.enabled_metadata.as_ref().is_none_or(|matcher| matcher.matches(all))
    }

    async fn check(
        &self,
        cx: &mut StreamCx,
        head: &mut RequestHead,
        settings: Option<&RouteSettings>,
    ) -> Option<LocalReply> {
        let body = match self.body(cx, head, settings).await {
            Ok(body) => body,
            Err(reply) => return Some(reply),
        };
        let service = settings.and_then(|settings| settings.service.as_ref());
        let callouts = cx.io().callouts();
        let empty = BTreeMap::new();
        let context = settings.map_or(&empty, |settings| &settings.context);
        let question = Question { filter: self, cx, head, body, context };
        let verdict = match service.unwrap_or(&self.service) {
            Service::Grpc(target) => grpc::ask(&*callouts, target, &question).await,
            Service::Http(service) => service.ask(&*callouts, &question).await,
        };
        self.obey(verdict, cx, head)
    }

    /// What the service is told of the request's body.
    async fn body(
        &self,
        cx: &mut StreamCx,
        head: &mut RequestHead,
        settings: Option<&RouteSettings>,
    ) -> Result<Option<ask::Body>, LocalReply> {
        let own = settings.and_then(|settings| settings.body).or(self.body);
        let without = settings.is_some_and(|settings| settings.without_body);
        let Some(wanted) = own.filter(|_| !without && !cx.io().request.is_empty()) else {
            return Ok(None);
        };
        let (content, complete) = if wanted.partial {
            let peeked = cx.io().request.peek(wanted.longest).await;
            peeked.map_err(|error| weft_filter_api::ReadError::from(error).into_reply())?
        } else {
            let read = cx.io().request.read(wanted.longest).await;
            (read.map_err(weft_filter_api::ReadError::into_reply)?, true)
        };
        let complete = complete && content.len() <= wanted.longest;
        let content = content.slice(..content.len().min(wanted.longest));
        head.headers.remove(&PARTIAL);
        Ok(Some(ask::Body { content, partial: !complete, as_bytes: wanted.as_bytes }))
    }

    fn obey(
        &self,
        verdict: Verdict,
        cx: &mut StreamCx,
        head: &mut RequestHead,
    ) -> Option<LocalReply> {
        match verdict {
            Verdict::Allowed(changes) => {
                if self.validates && changes.invalid {
                    return Some(self.invalid(cx));
                }
                self.stats.ok.inc();
                self.allow(*changes, cx, head);
                None
            }
            Verdict::Denied(denial, metadata) => {
                if self.validates && denial.invalid {
                    return Some(self.invalid(cx));
                }
                self.stats.denied.inc();
                if self.takes_metadata {
                    cx.annotate().namespace_mut(NAMESPACE).extend(metadata);
                }
                Some(self.refuse(cx, denial, "ext_authz_denied"))
            }
            Verdict::Failed(denial) => {
                self.stats.error.inc();
                if !self.fails_open {
                    let denial = denial.unwrap_or_else(|| Denial::of(self.status_on_error));
                    return Some(self.refuse(cx, denial, "ext_authz_error"));
                }
                self.stats.failure_mode_allowed.inc();
                if self.tells_failure {
                    head.headers.insert(FAILED_OPEN.clone(), HeaderValue::from_static("true"));
                }
                None
            }
        }
    }

    fn allow(&self, changes: Changes, cx: &mut StreamCx, head: &mut RequestHead) {
        let Changes { remove, set, to_client, query, metadata, invalid: _ } = changes;
        cx.route_changed |=
            self.clear_route && !(remove.is_empty() && set.is_empty() && query.is_empty());
        for change in &set {
            change.apply(&mut head.headers);
        }
        for name in remove.iter().filter(|name| **name != http::header::HOST) {
            head.headers.remove(name);
        }
        query.apply(head);
        if !to_client.is_empty() {
            cx.state.insert(ToClient(to_client.into()));
        }
        if self.takes_metadata && !metadata.is_empty() {
            cx.annotate().namespace_mut(NAMESPACE).extend(metadata);
        }
    }

    fn refuse(&self, cx: &mut StreamCx, denial: Denial, details: &'static str) -> LocalReply {
        cx.flags.set(ResponseFlag::UnauthorizedExternalService);
        let mut body = denial.body;
        if self.longest_denial > 0 {
            body.truncate(self.longest_denial);
        }
        let mut reply = LocalReply::text(denial.status, body, details);
        denial.headers.iter().for_each(|change| change.apply(&mut reply.headers));
        reply
    }

    fn invalid(&self, cx: &mut StreamCx) -> LocalReply {
        self.stats.invalid.inc();
        self.refuse(cx, Denial::of(StatusCode::INTERNAL_SERVER_ERROR), "ext_authz_invalid")
    }
}
