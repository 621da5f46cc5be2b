//! Hosts that say in their responses that they are going away.

use http::{HeaderMap, HeaderName};
use weft_model::{ClusterHandle, HealthFlags, HostState};

/// The header by which a host fails its health check at once.
pub(super) const IMMEDIATE_FAIL: HeaderName =
    HeaderName::from_static("x-envoy-immediate-health-check-fail");

/// Takes a host out of use, until a check succeeds, if a response says so.
pub(crate) fn heed(cluster: &ClusterHandle, host: &HostState, response: &HeaderMap) {
    if !response.contains_key(IMMEDIATE_FAIL) {
        return;
    }
    if host.change_flags(HealthFlags::FAILED_ACTIVE | HealthFlags::EXCLUDED, 0) {
        for name in ["health_check.failure", "health_check.passive_failure"] {
            cluster.stats_scope().counter(name).inc();
        }
        cluster.health_changed();
    }
}
