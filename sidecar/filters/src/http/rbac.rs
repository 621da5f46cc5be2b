//! `envoy.filters.http.rbac`: who may do what.

use http::StatusCode;
use http::request::Parts as RequestHead;
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};
use weft_telemetry::Annotations;

use crate::rbac::{Counts, Rules, Subject};
use crate::view::request_view;

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// The namespace of what the filter writes to dynamic metadata.
const NAMESPACE: &str = "envoy.filters.http.rbac";

/// The filter.
#[derive(Debug)]
pub(crate) struct Rbac {
    own: Both,
    /// `rules_stat_prefix`
    prefix: String,
    /// `shadow_rules_stat_prefix`
    shadow_prefix: String,
    enforced: Counts,
    shadow: Counts,
}

/// What is enforced and what is only tried; a route's take the place of the filter's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Both {
    rules: Option<Rules>,
    shadow: Option<Rules>,
}

impl HttpFilter for Rbac {
    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let both = route.and_then(|route| route.downcast_ref::<Both>()).unwrap_or(&self.own);
        if both.rules.is_none() && both.shadow.is_none() {
            return Flow::Continue;
        }
        let view = request_view(head);
        let subject = Subject {
            connection: &cx.connection,
            remote: cx.remote,
            request: Some(&view),
            annotations: cx.annotations.as_deref(),
        };
        let shadow = both.shadow.as_ref().map(|rules| rules.judge(&subject));
        if let Some(verdict) = &shadow {
            self.shadow.count(verdict);
        }
        let mut said = Annotations::default();
        if let Some(verdict) = &shadow {
            verdict.annotate(&mut said, NAMESPACE, &self.shadow_prefix, "shadow");
        }
        let verdict = both.rules.as_ref().map(|rules| rules.judge(&subject));
        if let Some(verdict) = &verdict {
            self.enforced.count(verdict);
            verdict.annotate(&mut said, NAMESPACE, &self.prefix, "enforced");
            verdict.hint(&mut said);
        }
        cx.annotate().merge(said);
        match verdict {
            Some(verdict) if !verdict.allowed => Flow::Reply(LocalReply::text(
                StatusCode::FORBIDDEN,
                "RBAC: access denied",
                verdict.details(),
            )),
            _ => Flow::Continue,
        }
    }
}
