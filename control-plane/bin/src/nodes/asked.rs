//! Who asked for which host, so that a change wakes those alone whom it concerns.

use std::collections::{BTreeSet, HashMap, HashSet};

use weft_translate::host_asked;

/// The streams by the hosts that they asked for.
#[derive(Default)]
pub(super) struct Asked {
    by_host: HashMap<String, HashSet<u64>>,
    hosts: HashMap<u64, BTreeSet<String>>,
}

impl Asked {
    /// A stream wants these virtual hosts, and no others.
    pub(super) fn note<'a>(&mut self, stream: u64, names: impl Iterator<Item = &'a String>) {
        let wanted: BTreeSet<_> = names.filter_map(|name| host_asked(name)).collect();
        let before = self.hosts.insert(stream, wanted.clone()).unwrap_or_default();
        for host in wanted.difference(&before) {
            self.by_host.entry(host.clone()).or_default().insert(stream);
        }
        for host in before.difference(&wanted) {
            self.forget(host, stream);
        }
    }

    /// A stream is gone.
    pub(super) fn leave(&mut self, stream: u64) {
        for host in self.hosts.remove(&stream).unwrap_or_default() {
            self.forget(&host, stream);
        }
    }

    /// The streams that asked for at least one of these hosts.
    pub(super) fn for_any_of(&self, hosts: &BTreeSet<String>) -> HashSet<u64> {
        hosts.iter().filter_map(|host| self.by_host.get(host)).flatten().copied().collect()
    }

    fn forget(&mut self, host: &str, stream: u64) {
        if let Some(streams) = self.by_host.get_mut(host) {
            streams.remove(&stream);
            if streams.is_empty() {
                self.by_host.remove(host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concerned(asked: &Asked, host: &str) -> Vec<u64> {
        let mut streams: Vec<_> = asked.for_any_of(&[host.to_owned()].into()).into_iter().collect();
        streams.sort_unstable();
        streams
    }

    #[test]
    fn those_who_asked_for_a_host_are_found_until_they_leave_it() {
        let mut asked = Asked::default();
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        asked.note(1, names(&["80/a", "80/B:80"]).iter());
        asked.note(2, names(&["8080/b."]).iter());
        assert_eq!(concerned(&asked, "b"), [1, 2]);
        asked.note(1, names(&["80/a"]).iter());
        assert_eq!((concerned(&asked, "a"), concerned(&asked, "b")), (vec![1], vec![2]));
        asked.leave(2);
        assert!(concerned(&asked, "b").is_empty() && asked.by_host.len() == 1);
    }
}
