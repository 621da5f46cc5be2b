//! `envoy.filters.http.header_mutation`: adds, sets and removes headers of requests and responses.

use http::header::Entry;
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderName, HeaderValue};
use weft_filter_api::{Flow, HttpFilter, RouteFilterConfig, StreamCx};
use weft_model::AppendAction;
use weft_route::StringMatcher;

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

/// One change; values are plain, without operators.
#[derive(Debug)]
enum Mutation {
    Remove(HeaderName),
    RemoveMatching(StringMatcher),
    Set { name: HeaderName, value: HeaderValue, action: AppendAction },
}

impl Mutation {
    fn apply(&self, headers: &mut HeaderMap) {
        match self {
            Self::Remove(name) => {
                headers.remove(name);
            }
            Self::RemoveMatching(matcher) => {
                let found: Vec<_> =
                    headers.keys().filter(|name| matcher.matches(name.as_str())).cloned().collect();
                for name in found {
                    headers.remove(name);
                }
            }
            Self::Set { name, value, action } => set(headers, name, value, *action),
        }
    }
}

fn set(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue, action: AppendAction) {
    match (headers.entry(name), action) {
        (Entry::Occupied(mut entry), AppendAction::AppendIfExistsOrAdd) => {
            entry.append(value.clone());
        }
        (
            Entry::Occupied(mut entry),
            AppendAction::OverwriteIfExistsOrAdd | AppendAction::OverwriteIfExists,
        ) => {
            entry.insert(value.clone());
        }
        (Entry::Occupied(_), AppendAction::AddIfAbsent)
        | (Entry::Vacant(_), AppendAction::OverwriteIfExists) => {}
        (Entry::Vacant(entry), _) => {
            entry.insert(value.clone());
        }
    }
}

impl HeaderMutation {
    fn apply(
        &self,
        headers: &mut HeaderMap,
        route: Option<&RouteFilterConfig>,
        side: fn(&Mutations) -> &[Mutation],
    ) {
        let route = route.and_then(|route| route.downcast_ref::<Mutations>());
        let route = route.map(side).unwrap_or_default();
        let (first, last) =
            if self.route_last { (side(&self.own), route) } else { (route, side(&self.own)) };
        for mutation in first.iter().chain(last) {
            mutation.apply(headers);
        }
    }
}

impl HttpFilter for HeaderMutation {
    fn sees_responses(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        _: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        self.apply(&mut head.headers, route, |mutations| &mutations.request);
        Flow::Continue
    }

    fn response(
        &self,
        _: &mut StreamCx,
        head: &mut ResponseHead,
        route: Option<&RouteFilterConfig>,
    ) {
        self.apply(&mut head.headers, route, |mutations| &mutations.response);
    }
}
