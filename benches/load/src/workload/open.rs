//! Latency at a rate that does not wait for answers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::steady::{Stage, Unit};
use super::{Conditions, Workload};
use crate::backend::{self, Service};
use crate::load::{Traffic, open};
use crate::metric::{Metric, Sample};
use crate::peers::{Protocol, Proxy, ProxyKind};

/// How many short windows there are for each round that was asked for. A time slice of the core that
/// load and backend share is as long as the latencies that are compared: one that falls into a
/// window spoils its p99, so that many short windows in turn say more than a few long ones.
const WINDOWS: usize = 4;

/// HTTP/1.1 at half of the rate that the slower proxy can do.
#[derive(Default)]
pub(super) struct HalfOfSaturation {
    /// Requests a second, known once each proxy was driven to its limit.
    rate: Option<f64>,
}

impl Workload for HalfOfSaturation {
    fn name(&self) -> &'static str {
        "http1-open"
    }

    fn title(&self) -> &'static str {
        "HTTP/1.1 at a constant rate, half of what the slower proxy can do; latency from the \
         intended moment of sending"
    }

    fn suits(&self, proxy: ProxyKind) -> bool {
        matches!(proxy, ProxyKind::Weft | ProxyKind::Haproxy)
    }

    fn rounds(&self, asked: usize) -> usize {
        asked * WINDOWS
    }

    fn prepare(&mut self, proxies: &[&Proxy], conditions: &Conditions) -> Result<()> {
        let mut slowest = f64::INFINITY;
        for proxy in proxies {
            let connections = conditions.connections;
            let stage = start(proxy, conditions)?;
            let measured = stage.measure(
                conditions.warm_up,
                conditions.measured,
                move |address, window| Traffic::Http1.run(address, connections, window),
            )?;
            let rate = measured.sample(Unit::Request).value(Metric::Requests);
            slowest = slowest.min(rate.context("no rate")?);
        }
        ensure!(slowest.is_finite(), "there is no proxy to measure");
        self.rate = Some(slowest / 2.0);
        Ok(())
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let rate = self.rate.context("invariant: the rate is found before the rounds")?;
        let connections = conditions.connections;
        let stage = start(proxy, conditions)?;
        let warm_up = conditions.warm_up.max(Duration::from_millis(500));
        let window = conditions.measured / 2;
        let measured = stage.measure(warm_up, window, move |address, window| {
            open::http1(address, connections, rate, window)
        })?;
        Ok(measured.sample(Unit::Request))
    }
}

fn start(proxy: &Proxy, conditions: &Conditions) -> Result<Stage> {
    let backend = backend::start(Service::Http1)?;
    Stage::single(proxy, Protocol::Http1, backend, conditions)
}
