//! `envoy.filters.network.ext_authz`: asks a service, over gRPC, whether a connection may go on. It
//! is asked when the connection is there; nothing goes upstream before the answer.

use std::rc::Rc;

use weft_filter_api::{Callouts, ConnectionFacts, NetworkFilter, NetworkFlow};
use weft_telemetry::{Counter, Gauge};
use weft_xds_proto::pb::envoy::service::auth::v3::AttributeContext;
use weft_xds_proto::struct_to_json;

use crate::authorization::{self, Shown, metadata};
use crate::config::GrpcTarget;
use crate::values::MetadataMatcher;

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// The namespace of what the service says for other filters.
const NAMESPACE: &str = "envoy.filters.network.ext_authz";

/// The filter.
#[derive(Debug)]
pub(crate) struct ExtAuthz {
    target: GrpcTarget,
    /// `failure_mode_allow`
    fails_open: bool,
    shown: Shown,
    /// `filter_enabled_metadata`
    enabled: Option<MetadataMatcher>,
    /// `metadata_context_namespaces`
    namespaces: Vec<String>,
    /// `shadow_mode`: asks and lets pass.
    shadow: bool,
    stats: Stats,
}

/// `ext_authz.<stat_prefix>.*`
#[derive(Debug)]
struct Stats {
    total: Counter,
    ok: Counter,
    denied: Counter,
    error: Counter,
    failure_mode_allowed: Counter,
    disabled: Counter,
    cx_closed: Counter,
    active: Gauge,
}

impl NetworkFilter for ExtAuthz {
    fn connected<'a>(
        &'a self,
        connection: &'a mut ConnectionFacts,
        callouts: &'a Rc<dyn Callouts>,
    ) -> NetworkFlow<'a> {
        let said = connection.annotations.as_deref();
        if self.enabled.as_ref().is_some_and(|wanted| !wanted.matches(said)) {
            self.stats.disabled.inc();
            return NetworkFlow::Continue;
        }
        NetworkFlow::Await(Box::pin(self.ask(connection, callouts)))
    }
}

impl ExtAuthz {
    async fn ask(&self, connection: &mut ConnectionFacts, callouts: &Rc<dyn Callouts>) -> bool {
        self.stats.total.inc();
        let said = connection.annotations.as_deref();
        let attributes = AttributeContext {
            metadata_context: Some(metadata(&self.namespaces, &[said])),
            ..authorization::attributes(connection, connection.remote, self.shown)
        };
        let answer = {
            let _asking = Asking::begin(&self.stats.active);
            authorization::check(&**callouts, &self.target, attributes).await
        };
        let allowed = match answer {
            None => {
                self.stats.error.inc();
                if self.fails_open {
                    self.stats.failure_mode_allowed.inc();
                }
                self.fails_open
            }
            Some(answer) => {
                let allowed = answer.status.is_none_or(|status| status.code == 0);
                let counter = if allowed { &self.stats.ok } else { &self.stats.denied };
                counter.inc();
                if let Some(said) = &answer.dynamic_metadata {
                    connection.annotate().namespace_mut(NAMESPACE).extend(struct_to_json(said));
                }
                allowed
            }
        };
        let stays = allowed || self.shadow;
        if !stays {
            self.stats.cx_closed.inc();
        }
        stays
    }
}

/// Counts a question while it waits for its answer.
struct Asking<'a>(&'a Gauge);

impl<'a> Asking<'a> {
    fn begin(active: &'a Gauge) -> Self {
        active.inc();
        Self(active)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
