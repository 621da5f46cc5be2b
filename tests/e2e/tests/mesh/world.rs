//! The network and the control plane of one test.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use weft_netns::{Host, Network, ensure_privileged};
use weft_testkit::{ApiServer, DEADLINE, Process, Reply, program, send_on, until};

/// The namespace of the workloads, as in Kubernetes.
pub(crate) const NAMESPACE: &str = "demo";
const ADMIN_PORT: u16 = 9180;
/// Where edges serve stream routes.
pub(crate) const STREAM_PORT: u16 = 9100;
/// The same over TLS.
pub(crate) const STREAM_TLS_PORT: u16 = 9101;

/// The programs, where every user can run them: the folder that they were
/// built in may be closed to others. Shared by the tests that run together.
pub(crate) struct Programs(TempDir);

impl Programs {
    pub(crate) fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Programs>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(programs) = shared.upgrade() {
            return Ok(programs);
        }
        let folder = open_folder()?;
        for name in ["weft-control-plane", "weft-sidecar", "weft-init"] {
            fs::copy(program(name), folder.path().join(name))?;
        }
        let programs = Arc::new(Self(folder));
        *shared = Arc::downgrade(&programs);
        Ok(programs)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// What every test starts with. Processes end before the network goes.
pub(crate) struct World {
    process: Option<Process>,
    key: String,
    control: Host,
    pub(crate) network: Network,
    folder: TempDir,
    programs: Arc<Programs>,
    cluster: Option<ApiServer>,
}

impl World {
    /// A network with nothing in it but a running control plane.
    pub(crate) async fn start() -> Result<Self> {
        let mut world = Self::empty()?;
        world.start_control_plane().await?;
        Ok(world)
    }

    /// The same in a cluster whose API server is a double.
    pub(crate) async fn start_in_cluster() -> Result<Self> {
        let mut world = Self::empty()?;
        let cluster = ApiServer::serve(listen(&world.control, 0)?);
        let server = format!("http://127.0.0.1:{}", cluster.address().port());
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "double", "cluster": { "server": server } }],
            "users": [{ "name": "control-plane", "user": {} }],
            "contexts": [{
                "name": "double",
                "context": { "cluster": "double", "user": "control-plane" },
            }],
            "current-context": "double",
        });
        fs::write(world.path("kubeconfig"), kubeconfig.to_string())?;
        world.cluster = Some(cluster);
        world.start_control_plane().await?;
        Ok(world)
    }

    fn empty() -> Result<Self> {
        ensure_privileged()?;
        let network = Network::create("wte2e")?;
        let control = network.host("control")?;
        let (folder, programs) = (open_folder()?, Programs::shared()?);
        let (process, key, cluster) = (None, String::new(), None);
        Ok(Self { process, key, control, network, folder, programs, cluster })
    }

    /// The API server's double.
    pub(crate) fn cluster(&self) -> Result<&ApiServer> {
        self.cluster.as_ref().context("this world is in no cluster")
    }

    /// Starts the control plane and waits until its Admin API answers.
    pub(crate) async fn start_control_plane(&mut self) -> Result<()> {
        let mut process = Process::start(self.control_plane(&[])?)?;
        let key = self.path("control/admin-key");
        let host = &self.control;
        let key = process
            .ready_when("the Admin API", || async {
                let key = fs::read_to_string(&key).context("no key yet")?.trim().to_owned();
                let path = "/apisix/admin/routes";
                ensure!(admin(host, &key, Method::GET, path, None).await?.status == 200);
                Ok(key)
            })
            .await?;
        (self.key, self.process) = (key, Some(process));
        Ok(())
    }

    /// Ends the control plane at once, as a crash would.
    pub(crate) async fn kill_control_plane(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the control plane does not run")?;
        process.signal(Signal::SIGKILL)?;
        process.end().await.map(drop)
    }

    fn control_plane(&self, arguments: &[&str]) -> Result<Command> {
        let file = self.path("control.yaml");
        let tcp = json!([STREAM_PORT, { "addr": STREAM_TLS_PORT, "tls": true }]);
        let mut config = json!({
            "data_dir": self.path("control"),
            "edge": { "stream_proxy": { "tcp": tcp } },
        });
        let mut command = self.control.command(self.programs.path("weft-control-plane"));
        if self.cluster.is_some() {
            config["kubernetes"] = json!({});
            command.env("KUBECONFIG", self.path("kubeconfig"));
        }
        fs::write(&file, config.to_string())?;
        command.arg("-c").arg(file).args(arguments);
        Ok(command)
    }

    /// A token with which a workload proves its service account.
    pub(crate) fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let arguments = ["token", "--namespace", namespace, "--service-account", account];
        let output = self.control_plane(&arguments)?.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    pub(crate) fn control_address(&self) -> IpAddr {
        self.control.ipv4().into()
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.path(name)
    }

    /// A path in this test's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The way to the Admin API for tasks of their own.
    pub(crate) fn api(&self) -> Api {
        Api { host: self.control.clone(), key: self.key.clone() }
    }

    /// Creates or replaces a resource.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.api().send(Method::PUT, path, Some(body)).await
    }

    /// Reads a resource or a list.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.api().send(Method::GET, path, None).await
    }

    /// Publishes an HTTP host of the mesh whose workloads have the label `app`,
    /// with further fields of the route and the upstream, and waits for its address.
    pub(crate) async fn publish(
        &self,
        app: &str,
        port: u16,
        route: &Value,
        upstream: &Value,
    ) -> Result<SocketAddr> {
        self.put_route(app, port, route, upstream).await?;
        Ok(SocketAddr::new(self.virtual_address(app).await?, 80))
    }

    /// Writes the route that [`World::publish`] describes, without waiting for
    /// workloads: a route that redirects has none.
    pub(crate) async fn put_route(
        &self,
        app: &str,
        port: u16,
        route: &Value,
        upstream: &Value,
    ) -> Result<()> {
        let upstream = merged(
            json!({
                "type": "roundrobin",
                "discovery_type": "mesh",
                "service_name": format!("{NAMESPACE}/{app}:{port}"),
            }),
            upstream,
        );
        let hosts = [app.to_owned(), format!("{app}.weft.test")];
        let route = merged(json!({ "uri": "/*", "hosts": hosts, "upstream": upstream }), route);
        self.put(&format!("/apisix/admin/routes/{app}"), &route).await?;
        Ok(())
    }

    /// Where the mesh reaches a host, once it has a workload.
    pub(crate) async fn virtual_address(&self, host: &str) -> Result<IpAddr> {
        until(&format!("{host} with a workload"), || async {
            let services = self.get("/weft/admin/services").await?;
            let list = services["list"].as_array().context("no list")?;
            let found = list.iter().map(|item| &item["value"]).find(|item| item["host"] == host);
            let service = found.with_context(|| format!("no {host} in {services}"))?;
            ensure!(service["workloads"].as_u64() > Some(0), "{service}");
            Ok(service["virtual_address"].as_str().context("no address")?.parse()?)
        })
        .await
    }
}

/// The Admin API.
#[derive(Clone)]
pub(crate) struct Api {
    host: Host,
    key: String,
}

impl Api {
    /// Sends a request and reads its JSON answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let reply = admin(&self.host, &self.key, method.clone(), path, body).await?;
        if !(200..300).contains(&reply.status) {
            bail!("{method} {path}: {} {}", reply.status, reply.text());
        }
        serde_json::from_slice(&reply.body).with_context(|| format!("{path}: {}", reply.text()))
    }
}

async fn admin(
    host: &Host,
    key: &str,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Reply> {
    let content = body.map(Value::to_string).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "weft")
        .header("x-api-key", key)
        .body(Full::new(Bytes::from(content)))?;
    let stream = connect(host, (Ipv4Addr::LOCALHOST, ADMIN_PORT).into()).await?;
    timeout(DEADLINE, send_on(stream, request)).await?
}

/// Connects from inside a namespace.
pub(crate) async fn connect(host: &Host, address: SocketAddr) -> Result<TcpStream> {
    let socket = host.enter(|| match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    })??;
    let connected = timeout(DEADLINE, socket.connect(address)).await?;
    connected.with_context(|| format!("cannot connect to {address}"))
}

/// Listens inside a namespace, on all addresses.
pub(crate) fn listen(host: &Host, port: u16) -> Result<TcpListener> {
    let listener = host.listen(SocketAddr::new([0u16; 8].into(), port))?;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

/// A GET from inside a namespace, on a connection of its own.
pub(crate) async fn get_as(from: &Host, to: SocketAddr, host: &str, path: &str) -> Result<Reply> {
    let request = Request::get(path).header("host", host).body(Full::default())?;
    timeout(DEADLINE, send_on(connect(from, to).await?, request)).await?
}

/// Writes a file that another user owns and nobody else reads.
pub(crate) fn give(path: &Path, owner: u32, content: &str) -> Result<()> {
    fs::write(path, content)?;
    std::os::unix::fs::chown(path, Some(owner), Some(owner))?;
    Ok(())
}

/// A folder that every user may read.
pub(crate) fn open_folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("weft-e2e-").tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

fn merged(mut base: Value, more: &Value) -> Value {
    if let (Some(base), Some(more)) = (base.as_object_mut(), more.as_object()) {
        base.extend(more.clone());
    }
    base
}
