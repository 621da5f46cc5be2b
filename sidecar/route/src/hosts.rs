//! Hosts: exact names in a hash, wildcards by the length of what they fix.

use std::borrow::Cow;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Why a domain can't be added; the table says where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DomainFault {
    Duplicate,
    Malformed,
}

/// Which virtual host a domain belongs to.
#[derive(Debug, Default)]
pub(crate) struct HostIndex {
    exact: HashMap<Box<str>, usize, RandomState>,
    /// `*.foo.com`, `*-foo.com`: by what follows the asterisk.
    suffixes: Wildcards,
    /// `foo.*`: by what comes before the asterisk.
    prefixes: Wildcards,
    any: Option<usize>,
}

#[derive(Debug, Default)]
struct Wildcards {
    /// The lengths that occur, longest first.
    lengths: Vec<usize>,
    names: HashMap<Box<str>, usize, RandomState>,
}

impl HostIndex {
    /// Adds a domain of the virtual host with this index.
    pub(crate) fn insert(&mut self, domain: &str, host: usize) -> Result<(), DomainFault> {
        let domain = domain.to_ascii_lowercase();
        if domain == "*" {
            return match self.any.replace(host) {
                None => Ok(()),
                Some(_) => Err(DomainFault::Duplicate),
            };
        }
        match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
            _ if domain.is_empty() || domain.matches('*').count() > 1 => {
                Err(DomainFault::Malformed)
            }
            (Some(suffix), _) => self.suffixes.insert(suffix, host),
            (_, Some(prefix)) => self.prefixes.insert(prefix, host),
            _ if domain.contains('*') => Err(DomainFault::Malformed),
            _ => add(&mut self.exact, &domain, host),
        }
    }

    /// The virtual host of an authority: exact, longest suffix, longest prefix, `*`.
    pub(crate) fn find(&self, authority: &str, ignore_port: bool) -> Option<usize> {
        if self.exact.is_empty()
            && self.suffixes.lengths.is_empty()
            && self.prefixes.lengths.is_empty()
        {
            return self.any;
        }
        let host = if ignore_port { without_port(authority) } else { authority };
        let host = lower_case(host);
        self.exact
            .get(&*host)
            .copied()
            .or_else(|| self.suffixes.find(&host, |host, length| host.get(host.len() - length..)))
            .or_else(|| self.prefixes.find(&host, |host, length| host.get(..length)))
            .or(self.any)
    }
}

impl Wildcards {
    fn insert(&mut self, fixed: &str, host: usize) -> Result<(), DomainFault> {
        add(&mut self.names, fixed, host)?;
        if let Err(at) = self.lengths.binary_search_by(|length| fixed.len().cmp(length)) {
            self.lengths.insert(at, fixed.len());
        }
        Ok(())
    }

    /// The asterisk stands for at least one character, so what is fixed is shorter than the host.
    fn find(&self, host: &str, part: impl Fn(&str, usize) -> Option<&str>) -> Option<usize> {
        let lengths = self.lengths.iter().filter(|length| **length < host.len());
        lengths
            .filter_map(|length| part(host, *length))
            .find_map(|part| self.names.get(part).copied())
    }
}

fn add<S: BuildHasher>(
    names: &mut HashMap<Box<str>, usize, S>,
    name: &str,
    host: usize,
) -> Result<(), DomainFault> {
    if names.contains_key(name) {
        return Err(DomainFault::Duplicate);
    }
    names.insert(name.into(), host);
    Ok(())
}

/// An authority without its port; the colons of an IPv6 address are none.
fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if authority.rfind(']').is_none_or(|bracket| bracket < colon) => {
            &authority[..colon]
        }
        _ => authority,
    }
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(domains: &[&str]) -> HostIndex {
        let mut index = HostIndex::default();
        for (host, domain) in domains.iter().enumerate() {
            index.insert(domain, host).unwrap();
        }
        index
    }

    #[test]
    fn exact_wins_over_suffix_over_prefix_over_any() {
        let hosts = index(&["*", "foo.*", "*.com", "foo.com"]);
        assert_eq!(hosts.find("foo.com", false), Some(3));
        assert_eq!(hosts.find("bar.com", false), Some(2));
        assert_eq!(hosts.find("foo.org", false), Some(1));
        assert_eq!(hosts.find("other", false), Some(0));
    }

    #[test]
    fn the_longest_wildcard_wins() {
        let hosts = index(&["*.com", "*.foo.com", "*-bar.foo.com", "a.*", "a.b.*"]);
        assert_eq!(hosts.find("x.foo.com", false), Some(1));
        assert_eq!(hosts.find("x-bar.foo.com", false), Some(2));
        assert_eq!(hosts.find("a.b.net", false), Some(4));
        assert_eq!(hosts.find("a.c.net", false), Some(3));
    }

    #[test]
    fn an_asterisk_stands_for_at_least_one_character() {
        let hosts = index(&["*.foo.com", "foo.*"]);
        assert_eq!(hosts.find(".foo.com", false), None);
        assert_eq!(hosts.find("foo.", false), None);
        assert_eq!(hosts.find("foo.com", false), Some(1));
    }

    #[test]
    fn a_port_counts_unless_it_is_ignored() {
        let hosts = index(&["foo.com", "foo.com:8080", "[::1]"]);
        assert_eq!(hosts.find("foo.com:8080", false), Some(1));
        assert_eq!(hosts.find("foo.com:80", false), None);
        assert_eq!(hosts.find("foo.com:80", true), Some(0));
        assert_eq!(hosts.find("[::1]:80", true), Some(2));
        assert_eq!(hosts.find("[::1]", true), Some(2));
    }

    #[test]
    fn case_does_not_count_and_a_trailing_dot_does() {
        let hosts = index(&["Foo.com", "bar.com."]);
        assert_eq!(hosts.find("FOO.COM", false), Some(0));
        assert_eq!(hosts.find("foo.com.", false), None);
        assert_eq!(hosts.find("bar.com.", false), Some(1));
    }

    #[test]
    fn a_domain_is_taken_once_and_has_one_asterisk_at_an_end() {
        let mut hosts = index(&["foo.com", "*", "*.a"]);
        for domain in ["FOO.com", "*", "*.A"] {
            assert_eq!(hosts.insert(domain, 9), Err(DomainFault::Duplicate), "{domain}");
        }
        for domain in ["", "a*b", "*.a.*", "**"] {
            assert_eq!(hosts.insert(domain, 9), Err(DomainFault::Malformed), "{domain}");
        }
    }
}
