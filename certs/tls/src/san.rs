//! Matching of subject alternative names.

use std::borrow::Cow;

use regex::Regex;
use weft_spiffe::SubjectAltName;

use crate::error::SpecError;

/// Which names a [`SanMatcher`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SanKind {
    /// URI names.
    Uri,
    /// DNS names; an exact pattern also matches a wildcard name that covers it.
    Dns,
    /// IP addresses, in their textual form.
    Ip,
    /// E-mail addresses.
    Email,
    /// All of them (Envoy's deprecated `match_subject_alt_names`).
    Any,
}

/// What a name must look like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SanPattern {
    /// The whole name.
    Exact(String),
    /// Its start.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// A part of it.
    Contains(String),
    /// A regular expression that must match the whole name.
    Regex(String),
}

/// One allowed name or pattern (Envoy's `SubjectAltNameMatcher`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SanMatcher {
    /// Which names are looked at.
    pub kind: SanKind,
    /// What one of them must look like.
    pub pattern: SanPattern,
    /// Whether upper and lower case are the same; not for regular expressions.
    pub ignore_case: bool,
}

impl SanMatcher {
    /// Exactly this URI, such as a SPIFFE id.
    pub fn uri(uri: impl Into<String>) -> Self {
        Self { kind: SanKind::Uri, pattern: SanPattern::Exact(uri.into()), ignore_case: false }
    }

    /// Exactly this DNS name.
    pub fn dns(name: impl Into<String>) -> Self {
        Self { kind: SanKind::Dns, pattern: SanPattern::Exact(name.into()), ignore_case: false }
    }

    fn describe(&self) -> String {
        let kind = match self.kind {
            SanKind::Uri => "URI:",
            SanKind::Dns => "DNS:",
            SanKind::Ip => "IP:",
            SanKind::Email => "EMAIL:",
            SanKind::Any => "",
        };
        match &self.pattern {
            SanPattern::Exact(text) => format!("{kind}{text}"),
            SanPattern::Prefix(text) => format!("{kind}{text}*"),
            SanPattern::Suffix(text) => format!("{kind}*{text}"),
            SanPattern::Contains(text) => format!("{kind}*{text}*"),
            SanPattern::Regex(text) => format!("{kind}/{text}/"),
        }
    }
}

/// A compiled matcher.
#[derive(Debug)]
pub(crate) struct SanTest {
    kind: SanKind,
    pattern: SanPattern,
    ignore_case: bool,
    regex: Option<Regex>,
    description: String,
}

impl SanTest {
    pub(crate) fn compile(matcher: &SanMatcher) -> Result<Self, SpecError> {
        let regex = match &matcher.pattern {
            SanPattern::Regex(text) => {
                Some(Regex::new(&format!("^(?:{text})$")).map_err(|error| SpecError::Regex {
                    pattern: text.clone(),
                    reason: error.to_string(),
                })?)
            }
            _ => None,
        };
        let lower = |text: &String| match matcher.ignore_case {
            true => text.to_ascii_lowercase(),
            false => text.clone(),
        };
        let pattern = match &matcher.pattern {
            SanPattern::Exact(text) => SanPattern::Exact(lower(text)),
            SanPattern::Prefix(text) => SanPattern::Prefix(lower(text)),
            SanPattern::Suffix(text) => SanPattern::Suffix(lower(text)),
            SanPattern::Contains(text) => SanPattern::Contains(lower(text)),
            SanPattern::Regex(text) => SanPattern::Regex(text.clone()),
        };
        Ok(Self {
            kind: matcher.kind,
            pattern,
            ignore_case: matcher.ignore_case,
            regex,
            description: matcher.describe(),
        })
    }

    pub(crate) fn matches(&self, name: &SubjectAltName) -> bool {
        let (kind, text) = match name {
            SubjectAltName::Uri(text) => (SanKind::Uri, Cow::Borrowed(text.as_str())),
            SubjectAltName::Dns(text) => (SanKind::Dns, Cow::Borrowed(text.as_str())),
            SubjectAltName::Email(text) => (SanKind::Email, Cow::Borrowed(text.as_str())),
            SubjectAltName::Ip(address) => (SanKind::Ip, Cow::Owned(address.to_string())),
        };
        if self.kind != SanKind::Any && self.kind != kind {
            return false;
        }
        let text = match self.ignore_case {
            true => Cow::Owned(text.to_ascii_lowercase()),
            false => text,
        };
        match (&self.pattern, &self.regex) {
            (SanPattern::Exact(wanted), _) if kind == SanKind::Dns => dns_matches(&text, wanted),
            (SanPattern::Exact(wanted), _) => text == wanted.as_str(),
            (SanPattern::Prefix(start), _) => text.starts_with(start.as_str()),
            (SanPattern::Suffix(end), _) => text.ends_with(end.as_str()),
            (SanPattern::Contains(part), _) => text.contains(part.as_str()),
            (SanPattern::Regex(_), regex) => {
                regex.as_ref().is_some_and(|regex| regex.is_match(&text))
            }
        }
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }
}

/// Whether a certificate's DNS name covers a host name: equal but for case, or a wildcard in place
/// of exactly its first label.
pub(crate) fn dns_matches(presented: &str, host: &str) -> bool {
    if presented.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(parent) = presented.strip_prefix("*.") else {
        return false;
    };
    host.split_once('.')
        .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(
        kind: SanKind,
        pattern: SanPattern,
        ignore_case: bool,
        name: &SubjectAltName,
    ) -> bool {
        let matcher = SanMatcher { kind, pattern, ignore_case };
        SanTest::compile(&matcher).unwrap().matches(name)
    }

    fn uri(text: &str) -> SubjectAltName {
        SubjectAltName::Uri(text.to_owned())
    }

    fn dns(text: &str) -> SubjectAltName {
        SubjectAltName::Dns(text.to_owned())
    }

    #[test]
    fn every_pattern_matches_what_it_says() {
        let id = uri("spiffe://td/ns/a/sa/b");
        let yes = [
            SanPattern::Exact("spiffe://td/ns/a/sa/b".into()),
            SanPattern::Prefix("spiffe://td/".into()),
            SanPattern::Suffix("/sa/b".into()),
            SanPattern::Contains("/ns/a/".into()),
            SanPattern::Regex("spiffe://td/ns/[a-z]/sa/.".into()),
        ];
        for pattern in yes {
            assert!(matches(SanKind::Uri, pattern.clone(), false, &id), "{pattern:?}");
            assert!(matches(SanKind::Any, pattern.clone(), false, &id), "{pattern:?}");
            assert!(!matches(SanKind::Dns, pattern.clone(), false, &id), "{pattern:?}");
        }
        let part = SanPattern::Regex("td/ns".into());
        assert!(!matches(SanKind::Uri, part, false, &id), "a regex matches the whole name");
        let exact = SanPattern::Exact("spiffe://td/ns/a/sa".into());
        assert!(!matches(SanKind::Uri, exact, false, &id));
    }

    #[test]
    fn case_counts_unless_ignored() {
        let pattern = || SanPattern::Prefix("SPIFFE://TD".into());
        let name = uri("spiffe://td/x");
        assert!(!matches(SanKind::Uri, pattern(), false, &name));
        assert!(matches(SanKind::Uri, pattern(), true, &name));
    }

    #[test]
    fn wildcard_names_cover_one_label() {
        let exact = |text: &str| SanPattern::Exact(text.to_owned());
        let wildcard = dns("*.example.com");
        assert!(matches(SanKind::Dns, exact("a.example.com"), false, &wildcard));
        assert!(matches(SanKind::Dns, exact("A.Example.com"), false, &wildcard));
        assert!(!matches(SanKind::Dns, exact("a.b.example.com"), false, &wildcard));
        assert!(!matches(SanKind::Dns, exact("example.com"), false, &wildcard));
        assert!(!matches(SanKind::Dns, exact(".example.com"), false, &wildcard));
    }

    #[test]
    fn addresses_match_by_their_text() {
        let name = SubjectAltName::Ip("::1".parse().unwrap());
        assert!(matches(SanKind::Ip, SanPattern::Exact("::1".into()), false, &name));
    }

    #[test]
    fn broken_regex_is_named() {
        let matcher = SanMatcher {
            kind: SanKind::Uri,
            pattern: SanPattern::Regex("(".into()),
            ignore_case: false,
        };
        let error = SanTest::compile(&matcher).unwrap_err();
        assert!(error.to_string().contains("\"(\""), "{error}");
    }
}
