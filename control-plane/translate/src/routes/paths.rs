//! APISIX's `uri` patterns as path matches, in APISIX's order.

use std::cmp::Reverse;

use weft_xds_proto::pb::envoy::config::route::v3::route_match::PathSpecifier;

use crate::envoy;

/// A `uri` pattern. The order is that of trial: exact paths first, then longer prefixes before
/// shorter ones, whatever the priorities.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathPattern {
    Exact(String),
    /// The prefix with its length, longest first, and what the whole path must match beside.
    Prefix(Reverse<usize>, String, Option<String>),
}

impl PathPattern {
    pub(super) fn parse(uri: &str) -> Self {
        let Some(star) = uri.find('*') else {
            return Self::Exact(uri.to_owned());
        };
        let prefix = &uri[..star];
        // A star that begins a segment and isn't the end makes the rest part of the match; any
        // other is the end of the pattern.
        let in_the_middle = prefix.ends_with('/') && uri[star..].contains('/');
        let whole = in_the_middle.then(|| expression(uri));
        Self::Prefix(Reverse(prefix.len()), prefix.to_owned(), whole)
    }

    pub(super) fn specifier(&self) -> PathSpecifier {
        match self {
            Self::Exact(path) => PathSpecifier::Path(path.clone()),
            Self::Prefix(_, prefix, None) => PathSpecifier::Prefix(prefix.clone()),
            Self::Prefix(_, _, Some(whole)) => PathSpecifier::SafeRegex(envoy::regex(whole)),
        }
    }
}

/// `/a/*name/b` as a regular expression; `*` covers slashes, too.
fn expression(uri: &str) -> String {
    let parts = uri.split('/').map(|segment| match segment.strip_prefix('*') {
        Some(_) => ".*".to_owned(),
        None => regex::escape(segment),
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_paths_come_first_and_longer_prefixes_before_shorter() {
        let mut patterns: Vec<_> = ["/*", "/a*", "/z", "/abc/*", "/a"]
            .into_iter()
            .map(|uri| (PathPattern::parse(uri), uri))
            .collect();
        patterns.sort();
        let order: Vec<_> = patterns.into_iter().map(|(_, uri)| uri).collect();
        assert_eq!(order, ["/a", "/z", "/abc/*", "/a*", "/*"]);
    }

    #[test]
    fn a_star_within_the_path_is_a_regular_expression() {
        let specifier = |uri: &str| PathPattern::parse(uri).specifier();
        assert_eq!(
            specifier("/blog/*name/x.y"),
            PathSpecifier::SafeRegex(envoy::regex("/blog/.*/x\\.y"))
        );
        assert_eq!(specifier("/blog/*name"), PathSpecifier::Prefix("/blog/".to_owned()));
        assert_eq!(specifier("/foo*/bar"), PathSpecifier::Prefix("/foo".to_owned()));
    }
}
