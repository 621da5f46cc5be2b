//! Memory of a proxy that has nothing to do.

use std::time::Duration;

use anyhow::{Result, bail};

use super::steady::{Stage, address, on_load_core};
use super::{Conditions, Workload};
use crate::backend::{self, Service};
use crate::load;
use crate::metric::{Metric, Sample};
use crate::peers::{Placement, Protocol, Proxy, ProxyKind, Setup};
use crate::process::Running;

/// How long a proxy is left alone before its memory is read.
const REST: Duration = Duration::from_secs(2);
/// Connections that are opened.
const CONNECTIONS: usize = 5_000;

/// A proxy that was just started, with as many workers as it takes by itself.
pub(super) struct Idle;

/// Connections that had one request each and wait for another.
pub(super) struct KeepAlive;

impl Workload for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn title(&self) -> &'static str {
        "idle, one listener and one cluster, workers as each proxy chooses"
    }

    fn suits(&self, _proxy: ProxyKind) -> bool {
        true
    }

    fn rounds(&self, _asked: usize) -> usize {
        1
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let backend = backend::start(Service::Http1)?;
        let setup = Setup {
            placement: Placement::Default,
            ..Setup::new(Protocol::Http1, address()?, backend)
        };
        let running = proxy.start(&setup, &conditions.folder)?;
        Ok(Sample::default().with(Metric::Resident, rested(&running)? / f64::from(1 << 20)))
    }
}

impl Workload for KeepAlive {
    fn name(&self) -> &'static str {
        "keep-alive"
    }

    fn title(&self) -> &'static str {
        "5,000 idle HTTP/1.1 connections after one request each"
    }

    fn suits(&self, _proxy: ProxyKind) -> bool {
        true
    }

    fn rounds(&self, _asked: usize) -> usize {
        1
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let backend = backend::start(Service::Http1)?;
        let stage = Stage::single(proxy, Protocol::Http1, backend, conditions)?;
        let address = stage.address;
        // Upstream connections and whatever else the first requests bring are there beforehand.
        drop(load_thread(move || on_load_core(load::hold(address, 200)))?);
        let before = rested(&stage.proxies[0])?;
        let held = load_thread(move || on_load_core(load::hold(address, CONNECTIONS)))?;
        let after = rested(&stage.proxies[0])?;
        drop(held);
        Ok(Sample::default()
            .with(Metric::PerConnection, (after - before) / 1024.0 / CONNECTIONS as f64)
            .with(Metric::Resident, after / f64::from(1 << 20)))
    }
}

/// Runs on a thread that may be pinned, which this one must not be.
pub(super) fn load_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match std::thread::spawn(run).join() {
        Ok(result) => result,
        Err(_) => bail!("the load failed"),
    }
}

/// Resident memory after a rest, bytes.
fn rested(running: &Running) -> Result<f64> {
    let until = std::time::Instant::now() + REST;
    while let Some(left) =
        until.checked_duration_since(std::time::Instant::now()).filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
    Ok(running.usage()?.resident as f64)
}
