//! What the interface asks of the proxy.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weft_model::Snapshot;
use weft_telemetry::{Metric, MetricName};

/// The proxy as the administration interface sees it.
pub trait AdminState: Send + Sync + 'static {
    /// Whether traffic is taken.
    fn readiness(&self) -> Readiness;
    /// The configuration in the shape of `envoy.admin.v3.ConfigDump`; private keys redacted.
    fn config_dump(&self) -> Value;
    /// What is served.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// All statistics.
    fn metrics(&self) -> Vec<(MetricName, Metric)>;
    /// Certificates in use.
    fn certificates(&self) -> Vec<CertificateEntry>;
    /// `envoy.admin.v3.ServerInfo` without the state.
    fn server_info(&self) -> Value;
    /// Drains listeners.
    fn drain(&self, request: DrainRequest);
    /// Ends the process after a drain.
    fn quit(&self);
    /// Fails readiness (`false`) or takes that back.
    fn set_healthy(&self, healthy: bool);
    /// Sets the log level.
    ///
    /// # Errors
    /// A sentence saying why the level is not one.
    fn set_log_level(&self, level: &str) -> Result<(), String>;
}

/// Whether traffic is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The first configuration is not there yet.
    Initializing,
    /// Traffic is taken.
    Live,
    /// The proxy is going away.
    Draining,
}

/// `/drain_listeners`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainRequest {
    /// Connections end after their requests and listeners close last; else listeners close at once.
    pub graceful: bool,
    /// Only listeners with `traffic_direction: INBOUND`.
    pub inbound_only: bool,
}

/// One use of certificates: what is trusted and what is shown.
#[derive(Clone, Debug, Default)]
pub struct CertificateEntry {
    /// Trusted roots.
    pub ca: Vec<CertificateFacts>,
    /// The chain that is shown, leaf first.
    pub chain: Vec<CertificateFacts>,
}

/// One certificate.
#[derive(Clone, Debug)]
pub struct CertificateFacts {
    /// Where it came from: a file, or the secret's name.
    pub path: String,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// DNS SANs.
    pub dns_sans: Vec<String>,
    /// URI SANs.
    pub uri_sans: Vec<String>,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
}

impl CertificateEntry {
    pub(crate) fn to_json(&self) -> Value {
        let all = |facts: &[CertificateFacts]| -> Vec<Value> {
            facts.iter().map(CertificateFacts::to_json).collect()
        };
        json!({"ca_cert": all(&self.ca), "cert_chain": all(&self.chain)})
    }
}

impl CertificateFacts {
    fn to_json(&self) -> Value {
        let dns = self.dns_sans.iter().map(|name| json!({"dns": name}));
        let names: Vec<_> =
            dns.chain(self.uri_sans.iter().map(|uri| json!({"uri": uri}))).collect();
        let left = self.not_after.duration_since(SystemTime::now()).unwrap_or_default();
        json!({
            "path": self.path,
            "serial_number": self.serial,
            "subject_alt_names": names,
            "days_until_expiration": (left.as_secs() / 86_400).to_string(),
            "valid_from": rfc3339(self.not_before),
            "expiration_time": rfc3339(self.not_after),
        })
    }
}

/// RFC 3339 in UTC with seconds.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    weft_telemetry::rfc3339(UNIX_EPOCH + Duration::from_secs(seconds))
}
