//! `envoy.filters.network.rbac`: who may connect. The decision falls when the connection is there;
//! nothing on which it depends changes before the client's first byte.

use std::rc::Rc;

use weft_filter_api::{Callouts, ConnectionFacts, NetworkFilter, NetworkFlow};
use weft_telemetry::Annotations;

use crate::rbac::{Counts, Rules, Subject};

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// The namespace of what the filter writes to dynamic metadata.
const NAMESPACE: &str = "envoy.filters.network.rbac";

/// The filter.
#[derive(Debug)]
pub(crate) struct Rbac {
    rules: Option<Rules>,
    shadow: Option<Rules>,
    /// `shadow_rules_stat_prefix`
    shadow_prefix: String,
    enforced: Counts,
    shadow_counts: Counts,
}

impl NetworkFilter for Rbac {
    fn connected<'a>(
        &'a self,
        connection: &'a mut ConnectionFacts,
        _: &'a Rc<dyn Callouts>,
    ) -> NetworkFlow<'a> {
        let mut said = Annotations::default();
        let subject = Subject {
            connection,
            remote: connection.remote,
            request: None,
            annotations: connection.annotations.as_deref(),
        };
        if let Some(rules) = &self.shadow {
            let verdict = rules.judge(&subject);
            self.shadow_counts.count(&verdict);
            verdict.annotate(&mut said, NAMESPACE, &self.shadow_prefix, "shadow");
        }
        let mut flow = NetworkFlow::Continue;
        if let Some(rules) = &self.rules {
            let verdict = rules.judge(&subject);
            self.enforced.count(&verdict);
            verdict.annotate(&mut said, NAMESPACE, "", "enforced");
            verdict.hint(&mut said);
            if !verdict.allowed {
                tracing::debug!(remote = %connection.remote, details = verdict.details(), "refused");
                flow = NetworkFlow::Close;
            }
        }
        connection.annotate().merge(said);
        flow
    }
}
