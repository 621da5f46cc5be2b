//! What a route asks of a request besides host and path.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use http::HeaderName;
use http::header::{COOKIE, HeaderMap};
use smallvec::SmallVec;

use crate::{RequestView, StringMatcher};

/// The conditions of a route; all have to hold.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// `RouteMatch.headers`
    pub headers: SmallVec<[HeaderMatcher; 2]>,
    /// `RouteMatch.query_parameters`
    pub query: SmallVec<[QueryMatcher; 1]>,
    /// `RouteMatch.cookies`
    pub cookies: Vec<CookieMatcher>,
    /// What is asked besides the request's head.
    pub beyond: Vec<Arc<dyn Beyond>>,
    /// `RouteMatch.grpc`: only gRPC requests.
    pub grpc: bool,
    /// `RouteMatch.runtime_fraction`: only this part of all requests.
    pub fraction: Option<Fraction>,
}

impl Conditions {
    /// Whether all conditions hold.
    #[must_use]
    pub fn hold(&self, request: &RequestView<'_>) -> bool {
        self.headers.iter().all(|header| header.holds(request))
            && self.query.iter().all(|query| query.holds(request.query))
            && self.cookies.iter().all(|cookie| cookie.holds(request.headers))
            && self.beyond.iter().all(|one| request.around.is_some_and(|all| one.holds(all)))
            && (!self.grpc || is_grpc(request.headers))
            && self.fraction.is_none_or(|fraction| fraction.contains(request.random))
    }
}

/// A condition on what is known of a request besides its head; what that is the caller knows
/// ([`RequestView::around`]).
pub trait Beyond: Debug + Send + Sync {
    /// Whether the condition holds.
    fn holds(&self, around: &dyn Any) -> bool;
}

/// One condition on a cookie (`route.v3.CookieMatcher`).
#[derive(Clone, Debug)]
pub struct CookieMatcher {
    /// The cookie's name.
    pub name: String,
    /// The test of its value.
    pub test: StringMatcher,
    /// `invert_match`; an absent cookie does not match, inverted it does.
    pub invert: bool,
}

impl CookieMatcher {
    fn holds(&self, headers: &HeaderMap) -> bool {
        let matched = cookie(headers, &self.name).is_some_and(|value| self.test.matches(value));
        matched != self.invert
    }
}

/// The value of the first cookie of a name, without the quotation marks around it.
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|one| one.split_once('='));
    let (_, value) = pairs.find(|(known, _)| known.trim() == name)?;
    let value = value.trim();
    let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(bare.unwrap_or(value))
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.starts_with(b"application/grpc") && matches!(value.get(16), None | Some(b'+' | b';'))
    })
}

/// A part of all requests (`type.v3.FractionalPercent`).
#[derive(Clone, Copy, Debug)]
pub struct Fraction {
    /// So many …
    pub numerator: u32,
    /// … of so many: 100, 10,000 or 1,000,000.
    pub denominator: u32,
}

impl Fraction {
    /// Whether a request with this random number belongs to the part.
    #[must_use]
    pub fn contains(self, random: u64) -> bool {
        random % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}

/// Which field a header matcher looks at.
#[derive(Clone, Debug)]
pub enum HeaderField {
    /// `:method`
    Method,
    /// `:authority`
    Authority,
    /// `:path`, the query included.
    Path,
    /// `:scheme`
    Scheme,
    /// A header.
    Name(HeaderName),
}

/// One header condition (`route.v3.HeaderMatcher`).
#[derive(Clone, Debug)]
pub struct HeaderMatcher {
    /// The field.
    pub field: HeaderField,
    /// The test.
    pub test: HeaderTest,
    /// `invert_match`
    pub invert: bool,
    /// `treat_missing_header_as_empty`
    pub missing_as_empty: bool,
}

/// What a header condition tests.
#[derive(Clone, Debug)]
pub enum HeaderTest {
    /// The field is there (`present_match: true`) or not (`false`).
    Present(bool),
    /// Its value matches; of several one has to, or all of them joined with commas.
    Matches(StringMatcher),
    /// Its value is an integer in `[start, end)`.
    Range(i64, i64),
}

impl HeaderMatcher {
    /// Whether the condition holds.
    #[must_use]
    pub fn holds(&self, request: &RequestView<'_>) -> bool {
        let value = self.value(request);
        let value = match value {
            None if self.missing_as_empty => Some(Cow::Borrowed("")),
            other => other,
        };
        let result = match (&self.test, value) {
            (HeaderTest::Present(wanted), value) => value.is_some() == *wanted,
            // As Envoy: an absent header fails a value test whether inverted or not.
            (_, None) => return false,
            (HeaderTest::Matches(matcher), Some(value)) => {
                matcher.matches(&value) || self.matches_one(matcher, request)
            }
            (HeaderTest::Range(start, end), Some(value)) => {
                value.parse::<i64>().is_ok_and(|number| (*start..*end).contains(&number))
            }
        };
        result != self.invert
    }

    /// Whether one of several values matches alone (as Envoy 1.40 has it): what is sent twice must
    /// not slip past a rule.
    fn matches_one(&self, matcher: &StringMatcher, request: &RequestView<'_>) -> bool {
        let HeaderField::Name(name) = &self.field else { return false };
        let values = request.headers.get_all(name);
        values.iter().nth(1).is_some()
            && values
                .iter()
                .any(|value| matcher.matches(&String::from_utf8_lossy(value.as_bytes())))
    }

    fn value<'a>(&self, request: &RequestView<'a>) -> Option<Cow<'a, str>> {
        match &self.field {
            HeaderField::Method => Some(Cow::Borrowed(request.method.as_str())),
            HeaderField::Authority => Some(Cow::Borrowed(request.authority)),
            HeaderField::Scheme => Some(Cow::Borrowed(request.scheme)),
            HeaderField::Path => Some(match request.query {
                None => Cow::Borrowed(request.path),
                Some(query) => Cow::Owned(format!("{}?{query}", request.path)),
            }),
            HeaderField::Name(name) => joined(request.headers, name),
        }
    }
}

/// All values of a header, joined with commas; bytes that are not UTF-8 are replaced.
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter();
    let first = String::from_utf8_lossy(values.next()?.as_bytes());
    let Some(second) = values.next() else { return Some(first) };
    let mut all = first.into_owned();
    for value in std::iter::once(second).chain(values) {
        all.push(',');
        all.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    Some(Cow::Owned(all))
}

/// One query condition (`route.v3.QueryParameterMatcher`).
#[derive(Clone, Debug)]
pub struct QueryMatcher {
    /// The parameter's name.
    pub name: String,
    /// The test of its first value.
    pub test: QueryTest,
}

/// What a query condition tests.
#[derive(Clone, Debug)]
pub enum QueryTest {
    /// The parameter is there (`true`) or not.
    Present(bool),
    /// Its value matches, percent-encoded as it arrived (as Envoy compares it).
    Matches(StringMatcher),
}

impl QueryMatcher {
    fn holds(&self, query: Option<&str>) -> bool {
        let value = query.and_then(|query| first_value(query, &self.name));
        match (&self.test, value) {
            (QueryTest::Present(wanted), value) => value.is_some() == *wanted,
            (QueryTest::Matches(_), None) => false,
            (QueryTest::Matches(matcher), Some(value)) => matcher.matches(value),
        }
    }
}

fn first_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests;
