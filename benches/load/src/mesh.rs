//! A sidecar in a large mesh: what it holds, and what the first call to a service costs.
//!
//! A control plane of Weft's with many services and one sidecar that calls a few. The sidecar's
//! listener is its bootstrap's, so that nothing need be intercepted; routes, virtual hosts,
//! clusters and endpoints come from the control plane as they do for every sidecar, and its
//! listeners come besides.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{Running, free_port};

/// Threads that write services.
const WRITERS: usize = 16;
/// Calls to a service after the first one.
const LATER_CALLS: usize = 20;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is measured.
pub(crate) struct Mesh<'a> {
    /// The programs.
    pub(crate) control_plane: &'a Path,
    pub(crate) sidecar: &'a Path,
    /// Where configurations, logs and data go.
    pub(crate) folder: &'a Path,
    /// Who answers all services, HTTP/1.1.
    pub(crate) backend: SocketAddr,
    /// Services in the mesh.
    pub(crate) services: usize,
    /// Those that are called.
    pub(crate) called: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MeshResult {
    /// Resident memory of the sidecar before it was called, bytes.
    pub(crate) before: u64,
    /// The same after the calls.
    pub(crate) after: u64,
    /// Median of what the first call to a service took longer than the later ones' median, ms.
    pub(crate) first_call: f64,
}

impl Mesh<'_> {
    /// Starts control plane and sidecar, calls, measures, ends both.
    pub(crate) fn measure(&self) -> Result<MeshResult> {
        let (admin, xds, tls) = (free_port()?, free_port()?, free_port()?);
        let data = self.folder.join("mesh-data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        let config = self.folder.join("mesh-control.yaml");
        fs::write(
            &config,
            format!(
                "data_dir: {}\nadmin: {{listen: '127.0.0.1:{admin}', key_required: false}}\n\
                 xds: {{plaintext: '127.0.0.1:{xds}', tls: '127.0.0.1:{tls}'}}\n",
                data.display()
            ),
        )?;
        let log = |name: &str| self.folder.join(name);
        let arguments = ["-c".to_owned(), text(&config)?];
        let log_file = log("mesh-control.log");
        let mut control = Running::start(self.control_plane, &arguments, "1", &log_file)?;
        let api = local(admin);
        control.wait_for(api)?;
        self.publish(api)?;
        let listen = free_port()?;
        let bootstrap = bootstrap(self.folder, xds, listen)?;
        let arguments = ["-c", &text(&bootstrap)?, "--concurrency", "1"].map(str::to_owned);
        let mut sidecar = Running::start(self.sidecar, &arguments, "0", &log("mesh-sidecar.log"))?;
        sidecar.wait_for(local(listen))?;
        self.call(&sidecar, local(listen))
    }

    fn call(&self, sidecar: &Running, address: SocketAddr) -> Result<MeshResult> {
        let mut client = Client::connect(address)?;
        // The first request of all waits for the table as well.
        client.settled("service-0.bench")?;
        rest();
        let before = sidecar.usage()?.resident;
        let mut added = Vec::new();
        for number in 1..=self.called {
            let host = format!("service-{}.bench", number * self.services / (self.called + 1));
            let first = client.timed(&host)?;
            let mut later = Vec::new();
            for _ in 0..LATER_CALLS {
                later.push(client.timed(&host)?);
            }
            added.push(first - median(&mut later));
        }
        rest();
        let after = sidecar.usage()?.resident;
        Ok(MeshResult { before, after, first_call: median(&mut added) * 1e3 })
    }

    /// Writes the services through the Admin API.
    fn publish(&self, api: SocketAddr) -> Result<()> {
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| scope.spawn(move || self.publish_some(api, writer)))
                .collect();
            for writer in writers {
                match writer.join() {
                    Ok(written) => written?,
                    Err(_) => bail!("a writer failed"),
                }
            }
            Ok(())
        })
    }

    fn publish_some(&self, api: SocketAddr, writer: usize) -> Result<()> {
        let mut client = Client::connect(api)?;
        for number in (writer..self.services).step_by(WRITERS) {
            let body = format!(
                "{{\"uri\":\"/*\",\"hosts\":[\"service-{number}.bench\"],\
                 \"labels\":{{\"weft.dev/scope\":\"mesh\"}},\
                 \"upstream\":{{\"type\":\"roundrobin\",\"nodes\":{{\"{}\":1}}}}}}",
                self.backend
            );
            let path = format!("/apisix/admin/routes/service-{number}");
            let status = client.request("PUT", &path, "weft", &body)?;
            ensure!(matches!(status, 200 | 201), "{path}: {status}");
        }
        Ok(())
    }
}

/// Writes the bootstrap of a sidecar that listens at a port of its own.
pub(crate) fn bootstrap(folder: &Path, xds: u16, listen: u16) -> Result<PathBuf> {
    let path = folder.join("mesh-sidecar.yaml");
    let text = BOOTSTRAP.replace("XDS", &xds.to_string()).replace("LISTEN", &listen.to_string());
    fs::write(&path, text)?;
    Ok(path)
}

const BOOTSTRAP: &str = "
node:
  id: sidecar~127.0.0.1~bench.bench~bench.svc.cluster.local
  cluster: bench.bench
  metadata: {NAMESPACE: bench, SERVICE_ACCOUNT: bench, INSTANCE_IPS: 127.0.0.1, LABELS: {app: bench}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}}]
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
static_resources:
  listeners:
  - name: bench
    address: {socket_address: {address: 127.0.0.1, port_value: LISTEN}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          rds: {route_config_name: '80', config_source: {ads: {}, resource_api_version: V3}}
          http_filters:
          - name: envoy.filters.http.on_demand
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand
              odcds: {source: {ads: {}, resource_api_version: V3}}
          - name: envoy.filters.http.router
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: xds-grpc
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: xds-grpc
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: XDS}}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
";

/// A connection of HTTP/1.1, one request at a time.
pub(crate) struct Client {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }

    /// Asks until the host is served: the mesh may not have been told to the sidecar yet.
    pub(crate) fn settled(&mut self, host: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            if self.request("GET", "/", host, "").is_ok_and(|status| status == 200) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{host} is never served");
            std::thread::park_timeout(Duration::from_millis(50));
            *self = Self::connect(self.address)?;
        }
    }

    /// Seconds that a call takes.
    fn timed(&mut self, host: &str) -> Result<f64> {
        let begun = Instant::now();
        let status = self.request("GET", "/", host, "")?;
        let time = begun.elapsed().as_secs_f64();
        ensure!(status == 200, "{host}: {status}");
        Ok(time)
    }

    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        host: &str,
        body: &str,
    ) -> Result<u16> {
        self.exchange(method, path, host, body).map(|(status, _)| status)
    }

    /// The status, and where the answer leads to.
    pub(crate) fn exchange(
        &mut self,
        method: &str,
        path: &str,
        host: &str,
        body: &str,
    ) -> Result<(u16, String)> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.get_mut().write_all((head + body).as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no status in {line:?}"))?;
        let (mut length, mut location) = (0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            if line.trim_end().is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().with_context(|| line.clone())?;
            } else if name.eq_ignore_ascii_case("location") {
                value.trim().clone_into(&mut location);
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, location))
    }
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub(crate) fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned())
}

/// Lets a process give back what it does not need.
fn rest() {
    let until = Instant::now() + Duration::from_secs(3);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left.max(Duration::from_millis(1)));
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
