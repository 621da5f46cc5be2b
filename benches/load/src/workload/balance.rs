//! How connections spread over workers.

use anyhow::{Result, ensure};

use super::memory::load_thread;
use super::steady::{address, on_load_core};
use super::{Conditions, Workload};
use crate::backend::{self, Service};
use crate::load;
use crate::metric::{Metric, Sample};
use crate::peers::{Placement, Protocol, Proxy, ProxyKind, Setup};
use crate::sockets;

/// HTTP/1.1 connections, all opened at once.
const CONNECTIONS: usize = 10_000;
/// Long-lived HTTP/2 connections: few, as between services.
const HTTP2_CONNECTIONS: usize = 40;

/// Connections over two workers on two cores.
pub(super) struct Balance {
    pub(super) http2: bool,
}

impl Workload for Balance {
    fn name(&self) -> &'static str {
        if self.http2 { "balance-http2" } else { "balance" }
    }

    fn title(&self) -> &'static str {
        if self.http2 {
            "40 long-lived HTTP/2 connections over 2 workers"
        } else {
            "10,000 HTTP/1.1 connections opened at once over 2 workers"
        }
    }

    fn suits(&self, proxy: ProxyKind) -> bool {
        matches!(proxy, ProxyKind::Weft | ProxyKind::Envoy)
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let (service, protocol, count) = if self.http2 {
            (Service::Http2, Protocol::Http2, HTTP2_CONNECTIONS)
        } else {
            (Service::Http1, Protocol::Http1, CONNECTIONS)
        };
        let backend = backend::start(service)?;
        let address = address()?;
        let setup =
            Setup { placement: Placement::TwoCores, ..Setup::new(protocol, address, backend) };
        let running = proxy.start(&setup, &conditions.folder)?;
        let http2 = self.http2;
        let held = load_thread(move || {
            on_load_core(async move {
                if http2 {
                    load::hold_http2(address, count).await
                } else {
                    load::hold(address, count).await
                }
            })
        })?;
        let workers = sockets::per_poller(running.leader(), address)?;
        drop(held);
        let total: usize = workers.iter().sum();
        ensure!(total >= count, "only {total} of {count} connections were found: {workers:?}");
        let busiest = workers.iter().max().copied().unwrap_or_default();
        Ok(Sample::default().with(Metric::Busiest, busiest as f64 * 100.0 / total as f64))
    }
}
