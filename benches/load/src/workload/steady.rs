//! A steady load: proxies started, warmed up, measured between two moments.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::Conditions;
use crate::certificates::Certificates;
use crate::load::{Outcome, Window};
use crate::metric::{Metric, Sample};
use crate::peers::{Protocol, Proxy, Setup, Tls};
use crate::process::{Running, Usage, free_port, pin_load};

/// Proxies that run, and where the load goes.
pub(super) struct Stage {
    /// One, or the client's side and the server's side of a pair.
    pub(super) proxies: Vec<Running>,
    pub(super) address: SocketAddr,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Request,
    Message,
    Connection,
    Gibibyte,
}

/// What a load did and what it cost each proxy.
pub(super) struct Measured {
    pub(super) outcome: Outcome,
    /// In the order of the stage.
    pub(super) used: Vec<Usage>,
}

/// A free address on loopback.
pub(super) fn address() -> Result<SocketAddr> {
    Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?))
}

impl Stage {
    /// One proxy, in the clear.
    pub(super) fn single(
        proxy: &Proxy,
        protocol: Protocol,
        backend: SocketAddr,
        conditions: &Conditions,
    ) -> Result<Self> {
        let address = address()?;
        let running = proxy.start(&Setup::new(protocol, address, backend), &conditions.folder)?;
        Ok(Self { proxies: vec![running], address })
    }

    /// Two of them that speak mTLS with each other.
    pub(super) fn pair(
        proxy: &Proxy,
        protocol: Protocol,
        backend: SocketAddr,
        conditions: &Conditions,
    ) -> Result<Self> {
        let certificates = Certificates::make(&conditions.folder)?;
        let (address, middle) = (address()?, address()?);
        let server =
            Setup { tls: Tls::Downstream(&certificates), ..Setup::new(protocol, middle, backend) };
        let server = proxy.start(&server, &conditions.folder)?;
        let client =
            Setup { tls: Tls::Upstream(&certificates), ..Setup::new(protocol, address, middle) };
        let client = proxy.start(&client, &conditions.folder)?;
        Ok(Self { proxies: vec![client, server], address })
    }

    /// Runs a load and measures what it costs, warm-up left out.
    pub(super) fn measure<F>(
        &self,
        warm_up: Duration,
        measured: Duration,
        load: impl FnOnce(SocketAddr, Window) -> F + Send + 'static,
    ) -> Result<Measured>
    where
        F: Future<Output = Result<Outcome>>,
    {
        let from = Instant::now() + warm_up;
        let window = Window { from, until: from + measured };
        let address = self.address;
        let load = std::thread::spawn(move || on_load_core(load(address, window)));
        let before = self.usage_at(window.from)?;
        let after = self.usage_at(window.until)?;
        let Ok(outcome) = load.join() else { bail!("the load failed") };
        let outcome = outcome?;
        ensure!(outcome.units + outcome.bytes > 0, "nothing came back");
        let used = before.iter().zip(&after).map(|(before, after)| after.since(*before)).collect();
        Ok(Measured { outcome, used })
    }

    /// What each proxy used until a moment that is still to come.
    fn usage_at(&self, moment: Instant) -> Result<Vec<Usage>> {
        while let Some(left) =
            moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            std::thread::park_timeout(left);
        }
        self.proxies.iter().map(Running::usage).collect()
    }
}

/// Runs a future to its end on the core of the load.
pub(super) fn on_load_core<T>(load: impl Future<Output = Result<T>>) -> Result<T> {
    pin_load()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, load)
}

impl Measured {
    /// The numbers for one unit.
    pub(super) fn sample(&self, unit: Unit) -> Sample {
        let seconds = self.outcome.elapsed.as_secs_f64();
        let units = self.outcome.units as f64;
        let cpu: f64 = self.used.iter().map(Usage::cpu).sum();
        let user: f64 = self.used.iter().map(|used| used.user).sum();
        let resident: u64 = self.used.iter().map(|used| used.resident).sum();
        let sample = Sample::default().with(Metric::Resident, resident as f64 / f64::from(1 << 20));
        if unit == Unit::Gibibyte {
            let gibibytes = self.outcome.bytes as f64 / f64::from(1 << 30);
            return sample
                .with(Metric::Throughput, gibibytes * 1024.0 / seconds)
                .with(Metric::GibibyteCpu, cpu / gibibytes)
                .with(Metric::GibibyteUser, user / gibibytes);
        }
        let sample = match unit {
            Unit::Message => sample
                .with(Metric::Messages, units / seconds)
                .with(Metric::MessagesPerCpu, units / cpu),
            Unit::Connection => sample
                .with(Metric::Connections, units / seconds)
                .with(Metric::ConnectionsPerCpu, units / cpu),
            Unit::Request | Unit::Gibibyte => sample.with(Metric::Requests, units / seconds),
        };
        let sample = match self.used.as_slice() {
            [client, server] => sample
                .with(Metric::ClientSideCpu, client.cpu() * 1e6 / units)
                .with(Metric::ServerSideCpu, server.cpu() * 1e6 / units),
            _ => sample,
        };
        sample
            .with(Metric::P50, self.outcome.latencies.quantile(0.5) as f64)
            .with(Metric::P99, self.outcome.latencies.quantile(0.99) as f64)
            .with(Metric::Cpu, cpu * 1e6 / units)
            .with(Metric::User, user * 1e6 / units)
    }
}
