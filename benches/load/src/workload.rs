//! The kinds of work, and one measurement of one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::backend::{self, Service};
use crate::certificates::Certificates;
use crate::load::{self, Outcome, Window};
use crate::peers::{Proxy, ProxyKind, Side};
use crate::process::{Running, Usage, free_port, pin_load};

/// How long a proxy is loaded before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// Connections at a time for plain TCP.
const TCP_CONNECTIONS: usize = 4;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    Http1,
    Http2,
    Tcp,
    Mtls,
}

/// What is counted.
pub(crate) enum Unit {
    Request,
    Gibibyte,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Requests or MiB a second.
    pub(crate) rate: f64,
    /// Microseconds; zero for TCP.
    pub(crate) p50: u64,
    /// Microseconds; zero for TCP.
    pub(crate) p99: u64,
    /// CPU microseconds a request, or seconds a GiB.
    pub(crate) cpu: f64,
    /// The part of it in user space.
    pub(crate) user: f64,
    /// MiB, at the end.
    pub(crate) resident: f64,
}

impl Workload {
    pub(crate) const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::Tcp, Self::Mtls];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
            Self::Mtls => "mtls",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1, small reply",
            Self::Http2 => "HTTP/2 to HTTP/2, small reply",
            Self::Tcp => "TCP relay",
            Self::Mtls => "mTLS pair: plain → mTLS → plain, HTTP/1.1, both proxies on one core",
        }
    }

    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Tcp => Unit::Gibibyte,
            Self::Http1 | Self::Http2 | Self::Mtls => Unit::Request,
        }
    }

    /// Whether a proxy can do this work at all: nginx 1.22 speaks no HTTP/2 to upstreams, and its
    /// TCP module comes separately.
    pub(crate) fn suits(self, proxy: ProxyKind) -> bool {
        proxy != ProxyKind::Nginx || matches!(self, Self::Http1 | Self::Mtls)
    }

    /// Starts the proxy, loads it and measures.
    pub(crate) fn run(
        self,
        proxy: &Proxy,
        folder: &Path,
        connections: usize,
        duration: Duration,
    ) -> Result<Sample> {
        let service = match self {
            Self::Http1 | Self::Mtls => Service::Http1,
            Self::Http2 => Service::Http2,
            Self::Tcp => Service::Echo,
        };
        let backend = backend::start(service)?;
        let (proxies, address) = self.start(proxy, folder, backend)?;
        let window_start = Instant::now() + WARM_UP;
        let window = Window { from: window_start, until: window_start + duration };
        let load = std::thread::spawn(move || self.load(address, connections, window));
        let before = at(window.from, &proxies)?;
        let after = at(window.until, &proxies)?;
        let Ok(outcome) = load.join() else { anyhow::bail!("the load failed") };
        Ok(self.sample(&outcome?, before, after))
    }

    fn start(
        self,
        proxy: &Proxy,
        folder: &Path,
        backend: SocketAddr,
    ) -> Result<(Vec<Running>, SocketAddr)> {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
        if self != Self::Mtls {
            let side = match self {
                Self::Http2 => Side::Http2,
                Self::Tcp => Side::Tcp,
                Self::Http1 | Self::Mtls => Side::Http1,
            };
            return Ok((vec![proxy.start(side, address, backend, folder)?], address));
        }
        let certificates = Certificates::make(folder)?;
        let middle = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
        let server = proxy.start(Side::MtlsServer(&certificates), middle, backend, folder)?;
        let client = proxy.start(Side::MtlsClient(&certificates), address, middle, folder)?;
        Ok((vec![client, server], address))
    }

    fn load(self, address: SocketAddr, connections: usize, window: Window) -> Result<Outcome> {
        pin_load()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let outcome = match self {
                Self::Http1 | Self::Mtls => load::http1(address, connections, window).await?,
                Self::Http2 => load::http2(address, connections, window).await?,
                Self::Tcp => load::tcp(address, TCP_CONNECTIONS, window).await?,
            };
            ensure!(outcome.latencies.total() + outcome.bytes > 0, "nothing came back");
            Ok(outcome)
        })
    }

    fn sample(self, outcome: &Outcome, before: Usage, after: Usage) -> Sample {
        let seconds = outcome.elapsed.as_secs_f64();
        let (cpu, user) = (after.cpu() - before.cpu(), after.user - before.user);
        let resident = after.resident as f64 / f64::from(1 << 20);
        match self.unit() {
            Unit::Request => {
                let requests = outcome.latencies.total() as f64;
                Sample {
                    rate: requests / seconds,
                    p50: outcome.latencies.quantile(0.5),
                    p99: outcome.latencies.quantile(0.99),
                    cpu: cpu * 1e6 / requests,
                    user: user * 1e6 / requests,
                    resident,
                }
            }
            Unit::Gibibyte => {
                let gibibytes = outcome.bytes as f64 / f64::from(1 << 30);
                let rate = gibibytes * 1024.0 / seconds;
                Sample {
                    rate,
                    p50: 0,
                    p99: 0,
                    cpu: cpu / gibibytes,
                    user: user / gibibytes,
                    resident,
                }
            }
        }
    }
}

/// What the proxies used until a moment that is still to come.
fn at(moment: Instant, proxies: &[Running]) -> Result<Usage> {
    while let Some(left) =
        moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
    let mut sum = Usage::default();
    for proxy in proxies {
        let usage = proxy.usage()?;
        sum.user += usage.user;
        sum.system += usage.system;
        sum.resident += usage.resident;
    }
    Ok(sum)
}
