//! From the acknowledgement of a write to the proxies that it concerns.
//!
//! etcd, a control plane, a fleet of proxies that only take note, and one sidecar that serves. A
//! route's redirect carries the number of the write, so that what a proxy is told, and what a
//! request is answered, says which write it is.

mod fleet;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::histogram::Histogram;
use crate::mesh::{Client, bootstrap, local, text};
use crate::process::{Running, free_port};
use fleet::{Fleet, MARK, version};

/// Proxies that only take note.
const PROXIES: usize = 1_000;
/// Routes, each of a host of its own.
const ROUTES: usize = 10_000;
/// Hosts that each proxy has asked for besides those that are measured.
const ASKED: usize = 18;
/// One proxy of so many is concerned by writes that concern few.
const FEW_OF: usize = 100;
/// Writes that are measured one by one.
const WRITES: u64 = 300;
/// Threads that write in a burst, each with a host that concerns everybody.
const WRITERS: usize = 16;
/// Writes of a burst.
const BURST: usize = 10_000;
/// In a burst, one write of so many is to the writer's own host.
const OWN_OF: usize = 5;
/// Between two writes that are measured.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a sidecar may take to serve a write.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host that every proxy has asked for.
pub(crate) const EVERYONE: &str = "everyone.bench";
/// A host that few proxies have asked for.
pub(crate) const FEW: &str = "few.bench";

/// What is measured.
pub(crate) struct Plan<'a> {
    /// The programs.
    pub(crate) control_plane: &'a Path,
    pub(crate) sidecar: &'a Path,
    /// Where configurations, logs and data go.
    pub(crate) folder: &'a Path,
}

/// Everything that runs.
pub(crate) struct Mesh {
    api: SocketAddr,
    xds: SocketAddr,
    traffic: SocketAddr,
    fleet: Fleet,
    /// The last write of each host.
    written: BTreeMap<String, u64>,
    _sidecar: Running,
    control_plane: Running,
    _etcd: Running,
}

/// Microseconds from the acknowledgement on.
#[derive(Default)]
pub(crate) struct Delays {
    /// Until the last proxy was told.
    pub(crate) told: Histogram,
    /// Until a request saw it.
    pub(crate) seen: Histogram,
}

/// What became of a burst.
pub(crate) struct Burst {
    /// Writes a second.
    pub(crate) rate: f64,
    /// Writes that reached a proxy in one push.
    pub(crate) coalesced: f64,
    /// Seconds from the last acknowledgement until everybody had the last state.
    pub(crate) settled: f64,
}

impl Mesh {
    /// Starts everything, writes the routes and connects the proxies.
    pub(crate) fn start(plan: &Plan<'_>) -> Result<Self> {
        let folder = plan.folder;
        let (etcd, store) = start_etcd(folder)?;
        let (admin, xds, tls) = (free_port()?, free_port()?, free_port()?);
        let config = folder.join("propagation-control.yaml");
        let settings = format!(
            "data_dir: {}\ndeployment: {{etcd: {{host: ['http://{store}']}}}}\n\
             admin: {{listen: '127.0.0.1:{admin}', key_required: false}}\n\
             xds: {{plaintext: '127.0.0.1:{xds}', tls: '127.0.0.1:{tls}'}}\n",
            folder.join("propagation-data").display()
        );
        fs::write(&config, settings)?;
        let arguments = ["-c".to_owned(), text(&config)?];
        let log = folder.join("propagation-control.log");
        let mut control_plane = Running::start(plan.control_plane, &arguments, "0,1", &log)?;
        control_plane.wait_for(local(admin))?;
        let listen = free_port()?;
        let bootstrap = bootstrap(folder, xds, listen)?;
        let arguments = ["-c", &text(&bootstrap)?, "--concurrency", "1"].map(str::to_owned);
        let log = folder.join("propagation-sidecar.log");
        let mut sidecar = Running::start(plan.sidecar, &arguments, "0,1", &log)?;
        sidecar.wait_for(local(listen))?;
        let mut mesh = Self {
            api: local(admin),
            xds: local(xds),
            traffic: local(listen),
            fleet: Fleet::new()?,
            written: BTreeMap::new(),
            _sidecar: sidecar,
            control_plane,
            _etcd: etcd,
        };
        mesh.publish()?;
        mesh.connect()?;
        Ok(mesh)
    }

    /// Writes each route once.
    fn publish(&mut self) -> Result<()> {
        let services = (0..ROUTES).map(service);
        let own = (0..WRITERS).map(own_host);
        let named = [EVERYONE, FEW].map(str::to_owned);
        let hosts: Vec<_> = services.chain(own).chain(named).collect();
        let api = self.api;
        parallel(|writer| {
            let mut client = Client::connect(api)?;
            hosts
                .iter()
                .skip(writer)
                .step_by(WRITERS)
                .try_for_each(|host| put(&mut client, host, 1))
        })?;
        self.written = hosts.into_iter().map(|host| (host, 1)).collect();
        Ok(())
    }

    /// Connects the proxies and waits until each has what it asked for.
    fn connect(&mut self) -> Result<()> {
        for member in 0..PROXIES {
            let mut hosts: Vec<_> =
                (0..ASKED).map(|index| service((member * 7919 + index * 541) % ROUTES)).collect();
            hosts.extend((0..WRITERS).map(own_host));
            hosts.push(EVERYONE.to_owned());
            if member % FEW_OF == 0 {
                hosts.push(FEW.to_owned());
            }
            self.fleet.join(self.xds, hosts);
        }
        self.fleet.wait(&self.written)?;
        Ok(())
    }

    /// Writes to one host again and again, each time waiting until the write is everywhere; the
    /// delays, and the control plane's CPU seconds a write.
    pub(crate) fn writes(&mut self, host: &str) -> Result<(Delays, f64)> {
        let mut writer = Client::connect(self.api)?;
        let mut delays = Delays::default();
        let first = self.written.get(host).copied().unwrap_or(0);
        see(self.traffic, host, first)?;
        let before = self.control_plane.usage()?;
        for number in first + 1..=first + WRITES {
            std::thread::park_timeout(PAUSE);
            let traffic = self.traffic;
            let (acknowledged, told, seen) = std::thread::scope(|scope| -> Result<_> {
                let seeing = scope.spawn(move || see(traffic, host, number));
                put(&mut writer, host, number)?;
                let acknowledged = Instant::now();
                let told = self.fleet.wait(&BTreeMap::from([(host.to_owned(), number)]))?;
                match seeing.join() {
                    Ok(seen) => Ok((acknowledged, told, seen?)),
                    Err(_) => bail!("the requests failed"),
                }
            })?;
            let micros = |at: Instant| {
                u64::try_from(at.saturating_duration_since(acknowledged).as_micros())
                    .unwrap_or(u64::MAX)
            };
            delays.told.record(micros(told));
            delays.seen.record(micros(seen));
            self.written.insert(host.to_owned(), number);
        }
        let used = self.control_plane.usage()?.since(before).cpu();
        Ok((delays, used / WRITES as f64))
    }

    /// Many writes at once, most of them to hosts that only a witness has asked for all of.
    pub(crate) fn burst(&mut self) -> Result<Burst> {
        self.fleet.join(self.xds, (0..ROUTES).map(service).collect());
        self.fleet.wait(&self.written)?;
        let api = self.api;
        let begun = Instant::now();
        let pushes = self.fleet.pushes((0..WRITERS).map(own_host));
        parallel(|writer| {
            let mut client = Client::connect(api)?;
            for (number, host) in burst_of(writer) {
                put(&mut client, &host, number)?;
            }
            Ok(())
        })?;
        let acknowledged = Instant::now();
        for writer in 0..WRITERS {
            let writes = burst_of(writer).into_iter();
            self.written.extend(writes.map(|(number, host)| (host, number)));
        }
        let last = self.fleet.wait(&self.written)?;
        let own = (0..WRITERS).map(|writer| burst_of(writer).len().div_ceil(OWN_OF) * PROXIES);
        let pushes = self.fleet.pushes((0..WRITERS).map(own_host)) - pushes;
        Ok(Burst {
            rate: BURST as f64 / (acknowledged - begun).as_secs_f64(),
            coalesced: own.sum::<usize>() as f64 / pushes as f64,
            settled: last.saturating_duration_since(acknowledged).as_secs_f64(),
        })
    }
}

/// The writes of one writer in a burst: numbers and hosts.
fn burst_of(writer: usize) -> Vec<(u64, String)> {
    let writes = (writer..BURST).step_by(WRITERS).enumerate();
    let write = |(turn, index): (usize, usize)| {
        let host = if turn % OWN_OF == 0 { own_host(writer) } else { service(index) };
        (2 + turn as u64, host)
    };
    writes.map(write).collect()
}

fn service(number: usize) -> String {
    format!("service-{number}.bench")
}

/// The host of a writer that concerns everybody.
fn own_host(writer: usize) -> String {
    format!("burst-{writer}.bench")
}

/// Writes a host's route.
fn put(client: &mut Client, host: &str, number: u64) -> Result<()> {
    let body = format!(
        "{{\"uri\":\"/*\",\"hosts\":[\"{host}\"],\"labels\":{{\"weft.dev/scope\":\"mesh\"}},\
         \"plugins\":{{\"redirect\":{{\"uri\":\"{MARK}{number}\",\"ret_code\":302}}}}}}"
    );
    let path = format!("/apisix/admin/routes/{host}");
    let status = client.request("PUT", &path, "weft", &body)?;
    ensure!(matches!(status, 200 | 201), "{path}: {status}");
    Ok(())
}

/// Asks through the sidecar until the answer is that of this write or a later one; when it was.
fn see(traffic: SocketAddr, host: &str, number: u64) -> Result<Instant> {
    let until = Instant::now() + PATIENCE;
    let mut client = Client::connect(traffic)?;
    loop {
        if let Ok((_, location)) = client.exchange("GET", "/", host, "") {
            if version(location.as_bytes()).is_some_and(|seen| seen >= number) {
                return Ok(Instant::now());
            }
            // Not so often that the requests are what the machine is busy with.
            std::thread::park_timeout(Duration::from_micros(200));
        } else {
            client = Client::connect(traffic)?;
        }
        ensure!(Instant::now() < until, "{host}: write {number} is never seen");
    }
}

fn parallel(work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let work = &work;
    std::thread::scope(|scope| {
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || work(writer))).collect();
        for writer in writers {
            match writer.join() {
                Ok(done) => done?,
                Err(_) => bail!("a writer failed"),
            }
        }
        Ok(())
    })
}

/// etcd with empty memory, and where it listens.
fn start_etcd(folder: &Path) -> Result<(Running, SocketAddr)> {
    let data = folder.join("propagation-etcd");
    let (client, peer) = (local(free_port()?), local(free_port()?));
    let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
    let cluster = format!("default={peer_url}");
    let arguments = [
        "--data-dir",
        &text(&data)?,
        "--listen-client-urls",
        &client_url,
        "--advertise-client-urls",
        &client_url,
        "--listen-peer-urls",
        &peer_url,
        "--initial-advertise-peer-urls",
        &peer_url,
        "--initial-cluster",
        &cluster,
        "--log-level",
        "error",
    ];
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    let log = folder.join("propagation-etcd.log");
    let mut etcd = Running::start(Path::new("etcd"), &arguments, "0,1", &log)
        .context("etcd is needed: apt-get install etcd-server")?;
    etcd.wait_for(client)?;
    Ok((etcd, client))
}
