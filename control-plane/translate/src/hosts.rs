//! Host patterns in APISIX's order of precedence.
//!
//! Envoy picks one virtual host and stays there, while APISIX goes on to the next host pattern
//! when none of a pattern's routes matches. So each virtual host gets, after its own routes,
//! those of every less specific pattern that also covers it.

use std::collections::{BTreeMap, BTreeSet};

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
            Some(suffix) => Self::Suffix(std::cmp::Reverse(suffix.len()), suffix.to_owned()),
        }
    }

    /// Whether every host that `narrow` covers is covered by this one, too.
    fn covers(&self, narrow: &Self) -> bool {
        match (self, narrow) {
            (Self::Any, _) => true,
            (Self::Suffix(_, wide), Self::Exact(name) | Self::Suffix(_, name)) => {
                name.ends_with(wide.as_str())
            }
            (wide, narrow) => wide == narrow,
        }
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

/// The groups of `routes` that hold for `host`, most specific first.
pub(crate) fn groups_for<'a, R>(
    host: &HostPattern,
    routes: &'a BTreeMap<HostPattern, R>,
) -> Vec<&'a R> {
    routes.iter().filter(|(pattern, _)| pattern.covers(host)).map(|(_, group)| group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(host: &str, patterns: &[&str]) -> Vec<String> {
        let routes: BTreeMap<_, _> =
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
