//! Retries that a request asks for: `x-envoy-retry-on` and the headers beside it.

use http::{HeaderMap, HeaderName};
use weft_model::{RetryOn, RetryPolicy};
use weft_route::{HeaderField, HeaderMatcher, HeaderTest};

use crate::names;

/// Takes the headers out of a request and adds what they ask for to the route's policy; `None`:
/// they ask for nothing.
pub(super) fn policy(
    headers: &mut HeaderMap,
    route: Option<&RetryPolicy>,
) -> Option<Box<RetryPolicy>> {
    let on = take(headers, &names::ENVOY_RETRY_ON);
    let grpc_on = take(headers, &names::ENVOY_RETRY_GRPC_ON);
    let most = take(headers, &names::ENVOY_MAX_RETRIES).and_then(|most| most.parse().ok());
    let codes = take(headers, &names::ENVOY_RETRIABLE_CODES);
    let fields = take(headers, &names::ENVOY_RETRIABLE_HEADERS);
    if on.is_none() && grpc_on.is_none() && most.is_none() && codes.is_none() && fields.is_none() {
        return None;
    }
    let mut policy = route.cloned().unwrap_or_else(RetryPolicy::of_nothing);
    policy.on.0 |= RetryOn::of_words(&on.unwrap_or_default()).0;
    policy.on.0 |= RetryOn::of_words(&grpc_on.unwrap_or_default()).0 & RetryOn::GRPC;
    policy.retries = most.unwrap_or(policy.retries.max(1));
    let codes = codes.unwrap_or_default();
    policy.status_codes.extend(codes.split(',').filter_map(|code| code.trim().parse().ok()));
    let fields = fields.unwrap_or_default();
    policy.headers.extend(fields.split(',').filter_map(|name| present(name.trim())));
    Some(Box::new(policy))
}

fn take(headers: &mut HeaderMap, name: &HeaderName) -> Option<String> {
    headers.remove(name)?.to_str().map(str::to_owned).ok()
}

/// A condition: a header of this name is there.
fn present(name: &str) -> Option<HeaderMatcher> {
    let field = HeaderField::Name(HeaderName::from_bytes(name.as_bytes()).ok()?);
    let test = HeaderTest::Present(true);
    Some(HeaderMatcher { field, test, invert: false, missing_as_empty: false })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(fields: &[(&'static str, &'static str)]) -> (HeaderMap, Option<Box<RetryPolicy>>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let policy = policy(&mut headers, None);
        (headers, policy)
    }

    #[test]
    fn what_a_request_asks_for_is_taken_out_of_it() {
        let (headers, policy) = asked(&[
            ("x-envoy-retry-on", "5xx, nonsense,retriable-status-codes"),
            ("x-envoy-retry-grpc-on", "cancelled,reset"),
            ("x-envoy-max-retries", "3"),
            ("x-envoy-retriable-status-codes", "418, x,419"),
            ("x-envoy-retriable-header-names", "x-again"),
        ]);
        let policy = policy.unwrap();
        let on = RetryOn::SERVER_ERROR | RetryOn::STATUS_CODES | RetryOn::GRPC_CANCELLED;
        assert_eq!((policy.on.0, policy.retries), (on, 3));
        assert_eq!((&policy.status_codes[..], policy.headers.len()), (&[418, 419][..], 1));
        assert!(headers.is_empty());
    }

    #[test]
    fn a_request_that_asks_for_nothing_changes_nothing() {
        assert!(asked(&[("x-envoy-original-path", "/")]).1.is_none());
    }
}
