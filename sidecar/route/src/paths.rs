//! Paths: exact ones in a hash, prefixes in a tree; the candidates that both
//! give are tried in the order of the configuration.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use http::Method;
use regex::Regex;
use smallvec::SmallVec;

use crate::RequestView;
use crate::tree::PrefixTree;

/// How a route matches the path (`RouteMatch.path_specifier`).
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// `prefix`: the path begins so.
    Prefix {
        /// The prefix.
        text: String,
        /// `case_sensitive: false`
        ignore_case: bool,
    },
    /// `path`: the whole path.
    Exact {
        /// The path.
        text: String,
        /// `case_sensitive: false`
        ignore_case: bool,
    },
    /// `path_separated_prefix`: the path is the prefix or goes on with `/`.
    Separated {
        /// The prefix, without `/` at its end.
        text: String,
        /// `case_sensitive: false`
        ignore_case: bool,
    },
    /// `safe_regex`: the whole path; see [`crate::StringMatcher::full_regex`].
    Regex(Regex),
    /// `connect_matcher`: CONNECT requests and HTTP/2 extended CONNECT.
    Connect,
}

impl PathMatch {
    /// Whether the path matches. A CONNECT request without a path matches [`Self::Connect`] only.
    #[must_use]
    pub fn matches(&self, request: &RequestView<'_>) -> bool {
        let path = request.path;
        if let Self::Connect = self {
            return *request.method == Method::CONNECT;
        }
        if pathless(request) {
            return false;
        }
        match self {
            Self::Exact { text, ignore_case: false } => path == text,
            Self::Exact { text, ignore_case: true } => path.eq_ignore_ascii_case(text),
            Self::Prefix { text, ignore_case } => begins(path, text, *ignore_case),
            Self::Separated { text, ignore_case } => {
                begins(path, text, *ignore_case)
                    && matches!(path.as_bytes().get(text.len()), None | Some(b'/'))
            }
            Self::Regex(regex) => regex.is_match(path),
            Self::Connect => false,
        }
    }
}

fn pathless(request: &RequestView<'_>) -> bool {
    request.path.is_empty() && *request.method == Method::CONNECT
}

fn begins(path: &str, text: &str, ignore_case: bool) -> bool {
    let Some(start) = path.as_bytes().get(..text.len()) else { return false };
    match ignore_case {
        true => start.eq_ignore_ascii_case(text.as_bytes()),
        false => start == text.as_bytes(),
    }
}

/// Where the routes of one virtual host are found by path.
#[derive(Debug, Default)]
pub(crate) struct PathIndex {
    sensitive: CaseIndex,
    /// Holds lower-case texts and is asked with a lower-case path.
    insensitive: CaseIndex,
    /// Routes that any path may belong to.
    rest: Vec<u32>,
}

#[derive(Debug, Default)]
struct CaseIndex {
    exact: HashMap<Box<str>, Vec<u32>, RandomState>,
    prefixes: PrefixTree,
    used: bool,
}

/// Ascending lists of candidates.
type Lists<'a> = SmallVec<[&'a [u32]; 8]>;

impl PathIndex {
    /// Adds the route with this index; indices have to ascend.
    pub(crate) fn insert(&mut self, path: &PathMatch, route: u32) {
        match path {
            PathMatch::Exact { text, ignore_case } => {
                let (index, text) = self.side(text, *ignore_case);
                index.exact.entry(text.into()).or_default().push(route);
            }
            PathMatch::Prefix { text, ignore_case }
            | PathMatch::Separated { text, ignore_case } => {
                let (index, text) = self.side(text, *ignore_case);
                index.prefixes.insert(text.as_bytes(), route);
            }
            PathMatch::Regex(regex) => match literal_prefix(regex.as_str()) {
                "" => self.rest.push(route),
                prefix => self.side(prefix, false).0.prefixes.insert(prefix.as_bytes(), route),
            },
            PathMatch::Connect => self.rest.push(route),
        }
    }

    fn side(&mut self, text: &str, ignore_case: bool) -> (&mut CaseIndex, String) {
        let (index, text) = match ignore_case {
            false => (&mut self.sensitive, text.to_owned()),
            true => (&mut self.insensitive, text.to_ascii_lowercase()),
        };
        index.used = true;
        (index, text)
    }

    /// The first route, in the order of the configuration, that `accepts` takes among those
    /// whose path may match.
    pub(crate) fn first(&self, path: &str, mut accepts: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut lists = Lists::new();
        self.sensitive.collect(path, &mut lists);
        if self.insensitive.used {
            self.insensitive.collect(&path.to_ascii_lowercase(), &mut lists);
        }
        if !self.rest.is_empty() {
            lists.push(&self.rest);
        }
        if let [only] = lists[..] {
            return only.iter().copied().find(|route| accepts(*route));
        }
        while let Some(route) = next(&mut lists) {
            if accepts(route) {
                return Some(route);
            }
        }
        None
    }
}

impl CaseIndex {
    fn collect<'a>(&'a self, path: &str, lists: &mut Lists<'a>) {
        if !self.exact.is_empty()
            && let Some(routes) = self.exact.get(path)
        {
            lists.push(routes);
        }
        self.prefixes.collect(path.as_bytes(), |routes| lists.push(routes));
    }
}

/// Takes the lowest index off ascending lists.
fn next(lists: &mut Lists<'_>) -> Option<u32> {
    let (at, _) = lists.iter().enumerate().min_by_key(|(_, list)| list.first().copied())?;
    let (route, rest) = lists[at].split_first()?;
    lists[at] = rest;
    if rest.is_empty() {
        lists.swap_remove(at);
    }
    Some(*route)
}

/// Text that everything matched by an expression of `full_regex` begins with; as much as is
/// certain without parsing it.
fn literal_prefix(expression: &str) -> &str {
    let Some(inner) = expression.strip_prefix("^(?s:") else { return "" };
    if inner.contains('|') {
        return "";
    }
    let literal = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_~%:@,=&!;".contains(byte);
    let length = inner.bytes().take_while(|byte| literal(byte)).count();
    match inner.as_bytes().get(length) {
        Some(b'*' | b'?' | b'{') => &inner[..length.saturating_sub(1)],
        _ => &inner[..length],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StringMatcher;

    #[test]
    fn the_beginning_of_an_expression_is_known_where_it_is_certain() {
        let prefix = |expression: &str| {
            let regex = StringMatcher::full_regex(expression).unwrap();
            literal_prefix(regex.as_str()).to_owned()
        };
        assert_eq!(prefix("/api/v[0-9]+/.*"), "/api/v");
        assert_eq!(prefix("/abc?d"), "/ab");
        assert_eq!(prefix("/abc*"), "/ab");
        assert_eq!(prefix("/abc{0,2}"), "/ab");
        assert_eq!(prefix("/ab+c"), "/ab");
        assert_eq!(prefix("/a|/b"), "");
        assert_eq!(prefix("(?i)/a"), "");
        assert_eq!(prefix(".*"), "");
        assert_eq!(prefix("/a\\.b"), "/a");
    }
}
