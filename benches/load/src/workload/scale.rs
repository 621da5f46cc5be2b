//! Many clusters over delta xDS: what they take in memory and time, and what one change costs.

mod control_plane;
mod resources;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use weft_xds_proto::ResourceType;

use self::control_plane::ControlPlane;
use self::resources::{Size, assignment, assignments, bootstrap, clusters, listener, name};
use super::steady::{Stage, Unit, address, on_load_core};
use super::{Conditions, Workload};
use crate::backend::{self, Service};
use crate::load::open;
use crate::metric::{Metric, Sample};
use crate::peers::{Proxy, ProxyKind};
use crate::process::free_port;

/// Clusters of the mesh.
const CLUSTERS: usize = 10_000;
/// Endpoints of each, for Weft.
const ENDPOINTS: usize = 10;
/// How long the proxy is left alone before its memory is read.
const REST: Duration = Duration::from_secs(3);
/// How long loading may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Changes a second.
const CHURN: u32 = 100;
/// How often requests with changes are compared with requests without, in each round.
const COMPARISONS: usize = 3;
/// Requests a second while endpoints change.
const RATE: f64 = 2_000.0;

/// Memory and time to serve.
pub(super) struct Scale;

/// What changes of single endpoints cost.
pub(super) struct Churn;

/// A proxy that serves the whole mesh.
struct Mesh {
    stage: Stage,
    /// From the proxy's stream to an answer from the last cluster.
    served_after: Duration,
    control_plane: ControlPlane,
    size: Size,
    backends: Vec<SocketAddr>,
}

impl Workload for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn title(&self) -> &'static str {
        "10,000 clusters over delta xDS, with 10 endpoints each (Envoy: with one)"
    }

    fn suits(&self, proxy: ProxyKind) -> bool {
        matches!(proxy, ProxyKind::Weft | ProxyKind::Envoy)
    }

    fn rounds(&self, _asked: usize) -> usize {
        1
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let endpoints = if proxy.kind == ProxyKind::Envoy { 1 } else { ENDPOINTS };
        let mesh = Mesh::start(Size { clusters: CLUSTERS, endpoints }, proxy, conditions)?;
        std::thread::park_timeout(REST);
        let resident = mesh.stage.proxies[0].usage()?.resident;
        Ok(Sample::default()
            .with(Metric::Resident, resident as f64 / f64::from(1 << 20))
            .with(Metric::Served, mesh.served_after.as_secs_f64()))
    }
}

impl Workload for Churn {
    fn name(&self) -> &'static str {
        "churn"
    }

    fn title(&self) -> &'static str {
        "100 endpoints a second changed among 10,000 clusters; 2,000 requests a second with and \
         without"
    }

    fn suits(&self, proxy: ProxyKind) -> bool {
        proxy == ProxyKind::Weft
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let size = Size { clusters: CLUSTERS, endpoints: ENDPOINTS };
        let mesh = Mesh::start(size, proxy, conditions)?;
        std::thread::park_timeout(REST);
        let before = mesh.stage.proxies[0].usage()?;
        let changes = mesh.churn(Instant::now() + conditions.measured)?;
        let used = mesh.stage.proxies[0].usage()?.since(before);
        let compared = (0..COMPARISONS).map(|_| mesh.compare(conditions));
        let compared: Vec<_> = compared.collect::<Result<_>>()?;
        let cpu = used.cpu() * 1e3 / changes as f64;
        Ok(Sample::medians(&compared).with(Metric::ChangeCpu, cpu))
    }
}

impl Mesh {
    /// Starts a proxy, gives it all clusters and waits until it serves the last of them.
    fn start(size: Size, proxy: &Proxy, conditions: &Conditions) -> Result<Self> {
        let backends: Vec<_> =
            (0..size.endpoints).map(|_| backend::start(Service::Http1)).collect::<Result<_>>()?;
        let address = address()?;
        let types = [
            (ResourceType::Cluster, clusters(size)?),
            (ResourceType::Endpoint, assignments(size, &backends)),
            (ResourceType::Listener, listener(size, address)?),
        ];
        let control_plane = ControlPlane::start(types.into())?;
        let bootstrap = bootstrap(control_plane.address, free_port()?);
        let running = proxy.start_with(&bootstrap, &conditions.folder)?;
        let deadline = Instant::now() + PATIENCE;
        while !answers(address) {
            ensure!(Instant::now() < deadline, "the last cluster is not served in time");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let connected = control_plane.connected().context("the proxy never connected")?;
        let served_after = connected.elapsed();
        let stage = Stage { proxies: vec![running], address };
        Ok(Self { stage, served_after, control_plane, size, backends })
    }

    /// Changes an endpoint of one cluster after the other until the time has come; returns how
    /// many were changed.
    fn churn(&self, until: Instant) -> Result<u64> {
        on_load_core(async {
            let mut clock = tokio::time::interval(Duration::from_secs(1) / CHURN);
            let mut changes = 0;
            loop {
                clock.tick().await;
                if Instant::now() >= until {
                    return Ok(changes);
                }
                changes += 1;
                let number = (changes as usize * 7919) % self.size.clusters;
                let body = assignment(self.size, number, &self.backends, 1 + changes);
                let name = name(number);
                self.control_plane.push(ResourceType::Endpoint, &name, changes, body).await?;
            }
        })
    }

    /// Requests while endpoints change, and how their p99 compares with that of others before and
    /// after: without, with, with, without, so that what drifts meanwhile meets both alike.
    fn compare(&self, conditions: &Conditions) -> Result<Sample> {
        let rounds = [false, true, true, false].map(|churn| self.traffic(churn, conditions));
        let [first, second, third, fourth] = rounds;
        let (quiet, busy) = ([first?, fourth?], [second?, third?]);
        let p99 = |rounds: &[Sample; 2]| -> f64 {
            rounds.iter().filter_map(|sample| sample.value(Metric::P99)).sum()
        };
        Ok(Sample::medians(&busy).with(Metric::Churned, p99(&busy) / p99(&quiet)))
    }

    /// Requests at a constant rate.
    fn traffic(&self, churn: bool, conditions: &Conditions) -> Result<Sample> {
        let (warm_up, measured) = (conditions.warm_up / 2, conditions.measured / 2);
        let connections = conditions.connections;
        let until = Instant::now() + warm_up + measured;
        let outcome = std::thread::scope(|scope| {
            let changing = churn.then(|| scope.spawn(|| self.churn(until)));
            let outcome = self.stage.measure(warm_up, measured, move |address, window| {
                open::http1(address, connections, RATE, window)
            });
            match changing.map(std::thread::ScopedJoinHandle::join) {
                Some(Err(_)) => bail!("the changes failed"),
                Some(Ok(Err(error))) => Err(error),
                Some(Ok(Ok(_))) | None => outcome,
            }
        })?;
        Ok(outcome.sample(Unit::Request))
    }
}

/// Whether a request is answered.
fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: scale\r\nconnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
