//! New mTLS connections, each with one small request.

use anyhow::{Result, ensure};

use super::steady::{Stage, Unit, address};
use super::{Conditions, Workload};
use crate::backend::{self, Service};
use crate::certificates::Certificates;
use crate::load::tls::{self, Sessions};
use crate::metric::Sample;
use crate::peers::{Protocol, Proxy, ProxyKind, Setup, Tls};

/// Connections at a time.
const CLIENTS: usize = 16;

/// Connections that are made, used once and closed.
pub(super) struct Handshakes {
    /// Whether each takes up the session of the one before.
    pub(super) resumed: bool,
}

impl Workload for Handshakes {
    fn name(&self) -> &'static str {
        if self.resumed { "resumed" } else { "handshakes" }
    }

    fn title(&self) -> &'static str {
        if self.resumed {
            "new mTLS connections that resume a session (TLS 1.3), one request each"
        } else {
            "new mTLS connections with a full handshake (TLS 1.3, X25519, ECDSA P-256), one \
             request each"
        }
    }

    fn suits(&self, proxy: ProxyKind) -> bool {
        matches!(proxy, ProxyKind::Weft | ProxyKind::Envoy | ProxyKind::Haproxy)
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let backend = backend::start(Service::Http1)?;
        let certificates = Certificates::make(&conditions.folder)?;
        let address = address()?;
        let setup = Setup {
            tls: Tls::Downstream(&certificates),
            ..Setup::new(Protocol::Http1, address, backend)
        };
        let stage = Stage { proxies: vec![proxy.start(&setup, &conditions.folder)?], address };
        let sessions = if self.resumed { Sessions::Resumed } else { Sessions::New };
        let clients = tls::clients(&certificates, sessions, CLIENTS)?;
        let measured =
            stage.measure(conditions.warm_up, conditions.measured, move |address, window| {
                tls::connections(address, clients, window)
            })?;
        let share = measured.outcome.resumed as f64 / measured.outcome.units as f64;
        ensure!(
            !self.resumed || share > 0.99,
            "only {:.0} % of the connections resumed a session",
            share * 100.0
        );
        ensure!(self.resumed || share == 0.0, "a session was resumed against the client's will");
        Ok(measured.sample(Unit::Connection))
    }
}
