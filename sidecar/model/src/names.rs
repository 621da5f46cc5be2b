//! The names that a proxy answers DNS queries for.

use std::collections::HashMap;
use std::net::IpAddr;

/// The names that a proxy answers DNS queries for, without regard to case.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NameTable(HashMap<Box<str>, NamedHost>);

/// What a name stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedHost {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its ports, each with what is spoken there (`http` of `_http._tcp`).
    pub ports: Vec<(String, u16)>,
}

impl NameTable {
    /// A table of these names. A name `*.example.com` stands for all below `example.com`.
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = (String, NamedHost)>) -> Self {
        let plain = |name: String| name.trim_end_matches('.').to_ascii_lowercase();
        Self(hosts.into_iter().map(|(name, host)| (plain(name).into(), host)).collect())
    }

    /// What `name` stands for, by itself or by the longest pattern that covers it. The name is in
    /// lower case and has no dot at its end.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NamedHost> {
        let above = name.char_indices().filter(|(_, char)| *char == '.').map(|(at, _)| &name[at..]);
        self.0.get(name).or_else(|| {
            above.into_iter().find_map(|suffix| self.0.get(format!("*{suffix}").as_str()))
        })
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_win_over_patterns_and_long_patterns_over_short() {
        let host = |last: u8| NamedHost { addresses: vec![[10, 0, 0, last].into()], ports: vec![] };
        let table = NameTable::new([
            ("Web.Example.com.".to_owned(), host(1)),
            ("*.example.com".to_owned(), host(2)),
            ("*.com".to_owned(), host(3)),
        ]);
        let found = |name: &str| table.get(name).map(|host| host.addresses[0].to_string());
        assert_eq!(found("web.example.com").as_deref(), Some("10.0.0.1"));
        assert_eq!(found("a.b.example.com").as_deref(), Some("10.0.0.2"));
        assert_eq!(found("example.com").as_deref(), Some("10.0.0.3"));
        assert_eq!(found("com"), None);
    }
}
