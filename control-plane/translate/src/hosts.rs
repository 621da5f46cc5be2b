//! Host patterns in APISIX's order of precedence.
//!
//! Envoy picks one virtual host and stays there, while APISIX goes on to the next host pattern
//! when none of a pattern's routes matches. So each virtual host gets, after its own routes,
//! those of every less specific pattern that also covers it.

use std::collections::BTreeSet;

use rpds::RedBlackTreeMapSync;

/// A pattern of host names. The order is that of precedence: exact names first, then longer
/// suffixes before shorter ones, then any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostPattern {
    Exact(String),
    /// What follows a leading `*`, with its length, longest first.
    Suffix(std::cmp::Reverse<usize>, String),
    Any,
}

impl HostPattern {
    pub(crate) fn parse(host: &str) -> Self {
        match host.strip_prefix('*') {
            None => Self::Exact(host.to_owned()),
            Some("") => Self::Any,
            Some(suffix) => Self::suffix(suffix),
        }
    }

    fn suffix(text: &str) -> Self {
        Self::Suffix(std::cmp::Reverse(text.len()), text.to_owned())
    }

    /// This pattern and all that cover what it covers, most specific first.
    fn covering(&self) -> impl Iterator<Item = Self> + '_ {
        let (own, name) = match self {
            Self::Exact(name) => (Some(self.clone()), name.as_str()),
            Self::Suffix(_, suffix) => (None, suffix.as_str()),
            Self::Any => (None, ""),
        };
        let suffixes = name.char_indices().map(|(at, _)| Self::suffix(&name[at..]));
        own.into_iter().chain(suffixes).chain([Self::Any])
    }

    /// As Envoy writes it among `domains`.
    pub(crate) fn domain(&self) -> String {
        match self {
            Self::Exact(name) => name.clone(),
            Self::Suffix(_, suffix) => format!("*{suffix}"),
            Self::Any => "*".to_owned(),
        }
    }
}

/// The virtual hosts that these patterns need.
///
/// `*foo.com` also covers `foo.com`, which Envoy's wildcards do not: it gets a host of its own.
pub(crate) fn virtual_hosts<'a>(
    patterns: impl Iterator<Item = &'a HostPattern>,
) -> BTreeSet<HostPattern> {
    let mut hosts = BTreeSet::new();
    for pattern in patterns {
        if let HostPattern::Suffix(_, suffix) = pattern
            && !suffix.starts_with(['.', '-'])
        {
            hosts.insert(HostPattern::Exact(suffix.clone()));
        }
        hosts.insert(pattern.clone());
    }
    hosts
}

/// Routes by the pattern of their host. A clone costs nothing.
pub(crate) type ByHost<R> = RedBlackTreeMapSync<HostPattern, R>;

/// The groups of `routes` that hold for `host`, most specific first.
pub(crate) fn groups_for<'a, R>(host: &HostPattern, routes: &'a ByHost<R>) -> Vec<&'a R> {
    host.covering().filter_map(|pattern| routes.get(&pattern)).collect()
}

/// Whether `host` is covered by a pattern that is not the one of all hosts.
pub(crate) fn is_covered<R>(host: &HostPattern, routes: &ByHost<R>) -> bool {
    host.covering().any(|pattern| pattern != HostPattern::Any && routes.contains_key(&pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(host: &str, patterns: &[&str]) -> Vec<String> {
        let routes: ByHost<_> =
            patterns.iter().map(|text| (HostPattern::parse(text), (*text).to_owned())).collect();
        groups_for(&HostPattern::parse(host), &routes).into_iter().cloned().collect()
    }

    #[test]
    fn less_specific_patterns_follow_the_more_specific() {
        let all = ["*", "*.com", "*.foo.com", "a.foo.com", "b.foo.com", "*.bar.com"];
        assert_eq!(groups("a.foo.com", &all), ["a.foo.com", "*.foo.com", "*.com", "*"]);
        assert_eq!(groups("*.foo.com", &all), ["*.foo.com", "*.com", "*"]);
        assert_eq!(groups("*", &all), ["*"]);
    }

    #[test]
    fn a_wildcard_without_a_dot_covers_the_bare_name() {
        let patterns = [HostPattern::parse("*foo.com"), HostPattern::parse("*.bar.com")];
        let hosts: Vec<_> =
            virtual_hosts(patterns.iter()).iter().map(HostPattern::domain).collect();
        assert_eq!(hosts, ["foo.com", "*.bar.com", "*foo.com"]);
        assert_eq!(groups("foo.com", &["*foo.com", "*.foo.com"]), ["*foo.com"]);
    }
}
