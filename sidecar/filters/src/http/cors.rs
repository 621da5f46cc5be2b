//! `envoy.filters.http.cors`: answers preflight requests and marks responses for allowed origins.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    HeaderValue, ORIGIN,
};
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{Method, StatusCode};
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};
use weft_route::{Fraction, StringMatcher};

pub(crate) mod config;
#[cfg(test)]
mod tests;

static REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
static ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// The filter; what it allows stands on the routes.
#[derive(Debug)]
pub(crate) struct Cors;

/// `CorsPolicy`, compiled.
#[derive(Debug)]
pub(crate) struct Policy {
    origins: Vec<StringMatcher>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
    private_network: bool,
    forward_foreign_preflights: bool,
    /// `None`: for all requests.
    enabled: Option<Fraction>,
}

/// The origin that a response is marked for.
#[derive(Clone)]
struct AllowedOrigin(HeaderValue);

impl Policy {
    fn allows(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        self.origins.iter().any(|matcher| matcher.matches(origin))
    }

    /// What both kinds of responses say.
    fn mark(&self, origin: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    fn preflight(&self, asked: &HeaderMap, origin: HeaderValue, headers: &mut HeaderMap) {
        self.mark(origin, headers);
        let pairs = [
            (&self.methods, ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
            (&self.headers, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
        ];
        for (allowed, question, answer) in pairs {
            // `*` allows what is asked for, since a literal star means nothing with credentials.
            let value = match allowed {
                Some(value) if value == "*" => asked.get(question),
                other => other.as_ref(),
            };
            if let Some(value) = value {
                headers.insert(answer, value.clone());
            }
        }
        if let Some(max_age) = &self.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        let asks_private = asked.get(&REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true");
        if self.private_network && asks_private {
            headers.insert(ALLOW_PRIVATE_NETWORK.clone(), HeaderValue::from_static("true"));
        }
    }
}

impl HttpFilter for Cors {
    fn sees_responses(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let Some(policy) = route.and_then(|route| route.downcast_ref::<Policy>()) else {
            return Flow::Continue;
        };
        let Some(origin) = head.headers.get(ORIGIN).filter(|origin| !origin.is_empty()) else {
            return Flow::Continue;
        };
        if policy.enabled.is_some_and(|part| !part.contains(fastrand::u64(..))) {
            return Flow::Continue;
        }
        let allowed = policy.allows(origin);
        let preflight = head.method == Method::OPTIONS
            && head.headers.get(ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|m| !m.is_empty());
        if !preflight || (!allowed && policy.forward_foreign_preflights) {
            if allowed {
                cx.state.insert(AllowedOrigin(origin.clone()));
            }
            return Flow::Continue;
        }
        let mut reply = LocalReply::text(StatusCode::OK, "", "cors_response");
        if allowed {
            policy.preflight(&head.headers, origin.clone(), &mut reply.headers);
        }
        Flow::Reply(reply)
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let policy = route.and_then(|route| route.downcast_ref::<Policy>());
        let (Some(policy), Some(AllowedOrigin(origin))) = (policy, cx.state.get()) else {
            return Flow::Continue;
        };
        policy.mark(origin.clone(), &mut head.headers);
        if let Some(exposed) = &policy.exposed {
            head.headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
        Flow::Continue
    }
}
