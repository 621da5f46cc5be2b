//! Counters for each response code that occurs.

use std::sync::{Arc, OnceLock};

use crate::stats::{Counter, Scope};

/// `upstream_rq_<code>`: made when a code occurs first. Codes are few: a walk along those seen so
/// far finds one without a lock.
#[derive(Clone, Debug)]
pub struct ResponseCodes(Arc<Codes>);

#[derive(Debug)]
struct Codes {
    scope: Scope,
    prefix: &'static str,
    seen: Link,
}

type Link = OnceLock<Box<Seen>>;

#[derive(Debug)]
struct Seen {
    code: u16,
    counter: Counter,
    next: Link,
}

impl ResponseCodes {
    /// Counters in `scope` whose names are `prefix` and the code.
    pub(crate) fn new(scope: &Scope, prefix: &'static str) -> Self {
        Self(Arc::new(Codes { scope: scope.clone(), prefix, seen: Link::new() }))
    }

    /// Counts a response.
    pub fn count(&self, code: u16) {
        let codes = &*self.0;
        let mut link = &codes.seen;
        loop {
            let seen = link.get_or_init(|| {
                let counter = codes.scope.counter(&format!("{}{code}", codes.prefix));
                Box::new(Seen { code, counter, next: Link::new() })
            });
            if seen.code == code {
                return seen.counter.inc();
            }
            link = &seen.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{ClusterStats, Registry};

    #[test]
    fn each_code_has_a_counter_once_it_occurs() {
        let registry = Registry::new();
        let stats = ClusterStats::new(&registry, "a");
        for code in [200, 503, 200, 404, 200] {
            stats.count_status(code);
        }
        let scope = registry.scope("cluster", Some(("envoy_cluster_name", "a")));
        let counts =
            ["200", "404", "503"].map(|code| scope.counter(&format!("upstream_rq_{code}")).value());
        assert_eq!(counts, [3, 1, 1]);
        assert!(registry.all().iter().all(|(name, _)| name.suffix != "upstream_rq_500"));
    }
}
