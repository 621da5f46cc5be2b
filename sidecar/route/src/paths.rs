//! Paths: a tree of prefixes whose candidates are tried in the order of the configuration.

use regex::Regex;

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
