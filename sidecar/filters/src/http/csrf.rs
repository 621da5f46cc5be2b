//! `envoy.filters.http.csrf`: requests that change something have to come from their own site.

use http::header::{ORIGIN, REFERER};
use http::request::Parts as RequestHead;
use http::{HeaderName, Method, StatusCode, Uri};
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};
use weft_route::{Fraction, StringMatcher};
use weft_telemetry::Counter;

use crate::view::request_view;

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// The filter.
#[derive(Debug)]
pub(crate) struct Csrf {
    own: Policy,
    missing: Counter,
    invalid: Counter,
    valid: Counter,
}

/// `CsrfPolicy`; a route's takes the place of the filter's.
#[derive(Debug)]
pub(crate) struct Policy {
    /// `filter_enabled`
    enabled: Option<Fraction>,
    /// `shadow_enabled`
    shadow: Option<Fraction>,
    /// `additional_origins`
    additional: Vec<StringMatcher>,
}

fn hit(part: Option<Fraction>) -> bool {
    part.is_some_and(|part| part.contains(fastrand::u64(..)))
}

/// The host and port in a header: of a URL, else the value as it is.
fn host_of(head: &RequestHead, name: HeaderName) -> Option<String> {
    let value = head.headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())?;
    let url = value.parse::<Uri>().ok();
    let host = url.as_ref().filter(|url| url.scheme().is_some()).and_then(Uri::authority);
    Some(host.map_or(value, http::uri::Authority::as_str).to_owned())
}

/// Where a request comes from; `null` is nowhere.
fn source(head: &RequestHead) -> Option<String> {
    match host_of(head, ORIGIN) {
        Some(origin) if origin == "null" => None,
        Some(origin) => Some(origin),
        None => host_of(head, REFERER),
    }
}

impl HttpFilter for Csrf {
    fn request<'a>(
        &'a self,
        _: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let policy = route.and_then(|route| route.downcast_ref::<Policy>()).unwrap_or(&self.own);
        let enabled = hit(policy.enabled);
        let changes = [Method::POST, Method::PUT, Method::DELETE, Method::PATCH];
        if (!enabled && !hit(policy.shadow)) || !changes.contains(&head.method) {
            return Flow::Continue;
        }
        match source(head) {
            None => self.missing.inc(),
            Some(source) => {
                let known = |matcher: &StringMatcher| matcher.matches(&source);
                if source == request_view(head).authority || policy.additional.iter().any(known) {
                    self.valid.inc();
                    return Flow::Continue;
                }
                self.invalid.inc();
            }
        }
        if !enabled {
            return Flow::Continue;
        }
        let reply =
            LocalReply::text(StatusCode::FORBIDDEN, "Invalid origin", "csrf_origin_mismatch");
        Flow::Reply(reply)
    }
}
