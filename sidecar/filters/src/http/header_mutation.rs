//! `envoy.filters.http.header_mutation`: adds, sets and removes headers of requests and responses.

use std::sync::Arc;

use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderName, HeaderValue};
use weft_filter_api::{Flow, HttpFilter, RouteFilterConfig, StreamCx};
use weft_model::HeaderSet;
use weft_route::StringMatcher;
use weft_telemetry::LogRecord;

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// The filter's own changes, and in `typed_per_filter_config` those of a route.
#[derive(Debug, Default)]
pub(crate) struct Mutations {
    request: Vec<Mutation>,
    response: Vec<Mutation>,
}

/// The filter.
#[derive(Debug)]
pub(crate) struct HeaderMutation {
    own: Mutations,
    /// `most_specific_header_mutations_wins`: the route's changes come last.
    route_last: bool,
}

/// One change.
#[derive(Debug)]
enum Mutation {
    Remove(HeaderName),
    RemoveMatching(StringMatcher),
    Set(HeaderSet),
}

/// The request's head, kept for responses whose headers are made of it.
#[derive(Clone)]
struct Asked(Arc<RequestHead>);

/// Headers of a request or a response, with what else their values are made of.
trait Head {
    fn headers(&mut self) -> &mut HeaderMap;
    fn value(&self, set: &HeaderSet, cx: &StreamCx) -> Option<HeaderValue>;
}

impl Head for RequestHead {
    fn headers(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    fn value(&self, set: &HeaderSet, cx: &StreamCx) -> Option<HeaderValue> {
        set.value(&cx.record(Some(self)))
    }
}

impl Head for ResponseHead {
    fn headers(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    fn value(&self, set: &HeaderSet, cx: &StreamCx) -> Option<HeaderValue> {
        let asked = cx.state.get::<Asked>().map(|asked| &*asked.0);
        set.value(&LogRecord {
            status: self.status.as_u16(),
            response_headers: Some(&self.headers),
            ..cx.record(asked)
        })
    }
}

impl Mutation {
    fn apply(&self, head: &mut dyn Head, cx: &StreamCx) {
        match self {
            Self::Remove(name) => {
                head.headers().remove(name);
            }
            Self::RemoveMatching(matcher) => {
                let headers = head.headers();
                let found: Vec<_> =
                    headers.keys().filter(|name| matcher.matches(name.as_str())).cloned().collect();
                for name in found {
                    headers.remove(name);
                }
            }
            Self::Set(set) => {
                if let Some(value) = head.value(set, cx) {
                    set.action.apply(head.headers(), &set.name, value);
                }
            }
        }
    }

    fn reads_request(&self) -> bool {
        matches!(self, Self::Set(set) if set.value.reads_request())
    }
}

impl HeaderMutation {
    /// The changes of one side in their order.
    fn in_order<'a>(
        &'a self,
        route: Option<&'a RouteFilterConfig>,
        side: fn(&Mutations) -> &[Mutation],
    ) -> impl Iterator<Item = &'a Mutation> {
        let route = route.and_then(|route| route.downcast_ref::<Mutations>());
        let route = route.map(side).unwrap_or_default();
        let (first, last) =
            if self.route_last { (side(&self.own), route) } else { (route, side(&self.own)) };
        first.iter().chain(last)
    }
}

impl HttpFilter for HeaderMutation {
    fn sees_responses(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        if self.in_order(route, |changes| &changes.response).any(Mutation::reads_request) {
            let (mut copy, ()) = http::Request::new(()).into_parts();
            copy.method.clone_from(&head.method);
            copy.uri.clone_from(&head.uri);
            copy.headers.clone_from(&head.headers);
            cx.state.insert(Asked(Arc::new(copy)));
        }
        for mutation in self.in_order(route, |changes| &changes.request) {
            mutation.apply(head, cx);
        }
        Flow::Continue
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        for mutation in self.in_order(route, |changes| &changes.response) {
            mutation.apply(head, cx);
        }
        Flow::Continue
    }
}
