//! Pods as the injector makes them: the commands, arguments and environment of their containers, run
//! as a kubelet would run them.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use weft_inject::{Settings, inject};
use weft_netns::Host;
use weft_testkit::{DEADLINE, Process, Upstream, until};

use crate::member::{Member, PROXY_USER, Profile, caller};
use crate::world::{NAMESPACE, World, connect, get_as, give, listen};

/// What a pod asks for beside a container `app` with a port and a probe.
#[derive(Default)]
pub(crate) struct PodSpec {
    /// Its annotations.
    pub(crate) annotations: Vec<(&'static str, String)>,
    /// Its port; 8080 unless given.
    pub(crate) port: Option<(&'static str, u16)>,
}

/// A pod whose init containers have run.
pub(crate) struct Pod {
    pub(crate) host: Host,
    pub(crate) process: Process,
    name: String,
    proxy: Value,
    probe: Value,
}

impl Pod {
    /// Injects a pod and runs the containers that the injector put into it. Its service account has
    /// its name.
    pub(crate) async fn start(world: &World, name: &str, spec: &PodSpec) -> Result<Self> {
        Self::start_on(world, world.network.host(name)?, spec).await
    }

    /// The same in a namespace that is there.
    pub(crate) async fn start_on(world: &World, host: Host, spec: &PodSpec) -> Result<Self> {
        let name = host.name().to_owned();
        let pod = injected(world, &name, spec)?;
        let [rules, proxy] = init_containers(&pod)?;
        let mut command = host.command(world.program(program(&rules)?));
        command.args(texts(&rules["args"])).envs(environment(&rules, &name, &host)?);
        let done = command.output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let mut command = host.command_as(PROXY_USER, PROXY_USER, world.program(program(&proxy)?));
        command.args(texts(&proxy["args"]));
        command.envs(environment(&proxy, &name, &host)?).envs(mounts(world, &name)?);
        let process = Process::start(command)?;
        let probe = pod["spec"]["containers"][0]["readinessProbe"]["httpGet"].clone();
        let mut pod = Self { host, process, name, proxy, probe };
        pod.ready().await?;
        Ok(pod)
    }

    /// Asks, as the kubelet does, until the proxy is ready.
    async fn ready(&mut self) -> Result<()> {
        let probe = self.proxy.pointer("/readinessProbe/httpGet").context("no readiness probe")?;
        let (path, port) = probed(probe)?;
        let host = &self.host;
        let asked = self.process.ready_when("the pod's proxy", || async {
            let reply = get_as(host, (host.ipv4(), port).into(), "kubelet", path).await?;
            ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
            Ok(())
        });
        asked.await
    }

    /// Where a port of the pod is reached.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        (self.host.ipv4(), port).into()
    }

    /// An HTTP application of the test in the pod.
    pub(crate) fn application(&self, port: u16) -> Result<Upstream> {
        Ok(Upstream::serve("pod", listen(&self.host, port)?)?)
    }

    /// Its identity in the mesh.
    pub(crate) fn identity(&self) -> String {
        format!("spiffe://cluster.local/ns/{NAMESPACE}/sa/{}", self.name)
    }
}

fn injected(world: &World, name: &str, spec: &PodSpec) -> Result<Value> {
    let settings = Settings {
        control_plane: SocketAddr::new(world.control_address(), 15012).to_string(),
        server_name: Some("weft-control-plane".to_owned()),
        ..Settings::default()
    };
    let (port_name, port) = spec.port.unwrap_or(("http", 8080));
    let annotations: serde_json::Map<_, _> =
        spec.annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let pod = json!({
        "metadata": { "name": name, "labels": { "app": name }, "annotations": annotations },
        "spec": {
            "serviceAccountName": name,
            "containers": [{
                "name": "app",
                "image": "app:1",
                "ports": [{ "name": port_name, "containerPort": port }],
                "readinessProbe": { "httpGet": { "path": "/healthy", "port": port_name } },
            }],
        },
    });
    let decision = inject(&pod, NAMESPACE, &settings)?;
    ensure!(decision.skipped.is_none(), "not injected: {:?}", decision.skipped);
    Ok(decision.pod)
}

/// The rules and the proxy.
fn init_containers(pod: &Value) -> Result<[Value; 2]> {
    let containers = pod["spec"]["initContainers"].as_array().cloned();
    let containers = containers.context("no init containers")?;
    containers.try_into().map_err(|all| anyhow::anyhow!("not two containers: {all:?}"))
}

/// Path and port of a probe.
fn probed(get: &Value) -> Result<(&str, u16)> {
    let port = get["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    Ok((get["path"].as_str().context("no path")?, port.context("no port")?))
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The program of a container's command, without the image's folder.
fn program(container: &Value) -> Result<&str> {
    let path = texts(&container["command"]).next().context("no command")?;
    Ok(path.rsplit('/').next().unwrap_or(path))
}

/// The container's environment, with what a kubelet knows of the pod.
fn environment(container: &Value, name: &str, host: &Host) -> Result<Vec<(String, String)>> {
    let variables = container["env"].as_array().into_iter().flatten();
    let of_pod = |path: &str| match path {
        "metadata.name" | "spec.serviceAccountName" => name.to_owned(),
        "metadata.namespace" => NAMESPACE.to_owned(),
        "status.podIPs" => {
            let addresses: Vec<_> = host.addresses().iter().map(ToString::to_string).collect();
            addresses.join(",")
        }
        _ => "node-1".to_owned(),
    };
    let one = |variable: &Value| {
        let name = variable["name"].as_str().context("a variable without a name")?;
        let field = variable.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str);
        let value = field.map_or_else(
            || variable["value"].as_str().map(str::to_owned),
            |path| Some(of_pod(path)),
        );
        Ok((name.to_owned(), value.context("a variable without a value")?))
    };
    variables.map(one).collect()
}

/// What a kubelet mounts: the folder of each volume, as a variable that names it. The token is one
/// that the API server vouches for.
fn mounts(world: &World, name: &str) -> Result<[(&'static str, String); 4]> {
    let folder = world.path(name);
    fs::create_dir_all(folder.join("state"))?;
    std::os::unix::fs::chown(folder.join("state"), Some(PROXY_USER), Some(PROXY_USER))?;
    let root = fs::read_to_string(world.path("control/ca/root-cert.pem"))?;
    let token = format!("token-of-{name}");
    world.cluster()?.accept_token(&token, NAMESPACE, name);
    give(&folder.join("root.pem"), PROXY_USER, &root)?;
    give(&folder.join("token"), PROXY_USER, &token)?;
    give(&folder.join("labels"), PROXY_USER, &format!("app=\"{name}\"\n"))?;
    let path = |name: &str| folder.join(name).display().to_string();
    Ok([
        ("WEFT_ROOT_FILE", path("root.pem")),
        ("WEFT_TOKEN_FILE", path("token")),
        ("WEFT_POD_INFO", folder.display().to_string()),
        ("WEFT_STATE_DIR", path("state")),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_injected_pod_starts_is_probed_called_and_ends() -> Result<()> {
    let world = World::start_in_cluster().await?;
    let mut pod = Pod::start(&world, "podded", &PodSpec::default()).await?;
    let application = pod.application(8080)?;
    let kubelet = world.network.host("kubelet")?;
    let (path, port) = probed(&pod.probe)?;
    ensure!((path, port) == ("/app-health/app/readyz", 15020), "{}", pod.probe);
    let reply = get_as(&kubelet, pod.at(port), "kubelet", path).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    ensure!(application.seen().last().is_some_and(|seen| seen.path == "/healthy"), "not probed");
    for port in [15020, 15090] {
        let reply = get_as(&kubelet, pod.at(port), "prometheus", "/stats/prometheus").await?;
        ensure!(reply.text().contains("envoy_server_live"), "{port}: {}", reply.text());
    }
    let client = Member::start(&world, Profile::workload("client", &[])).await?;
    let inside = world.publish("podded", 8080, &json!({}), &json!({})).await?;
    until("a call with the client's identity", || async {
        let reply = get_as(&client.host, inside, "podded", "/").await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        let seen = caller(&application)?;
        ensure!(seen.contains(&client.identity()), "seen as {seen:?}");
        ensure!(seen.contains(&pod.identity()), "answered as {seen:?}");
        Ok(())
    })
    .await?;
    ends_when_what_it_accepted_is_answered(&mut pod, &kubelet).await
}

/// SIGTERM, as the kubelet sends it, while a request is half sent.
async fn ends_when_what_it_accepted_is_answered(pod: &mut Pod, kubelet: &Host) -> Result<()> {
    let mut slow = connect(kubelet, pod.at(8080)).await?;
    slow.write_all(b"POST /slow HTTP/1.1\r\nhost: podded\r\ncontent-length: 10\r\n\r\n01234")
        .await?;
    let before = get_as(kubelet, pod.at(8080), "podded", "/before").await?;
    ensure!(before.status == 200, "{}", before.status);
    pod.process.signal(Signal::SIGTERM)?;
    pod.process.line_with("draining").await?;
    let at = pod.at(15021);
    let reply = get_as(kubelet, at, "kubelet", "/healthz/ready").await?;
    ensure!(reply.status == 503, "ready while it ends: {}", reply.status);
    slow.write_all(b"56789").await?;
    let mut answer = Vec::new();
    timeout(DEADLINE, slow.read_to_end(&mut answer)).await.context("no end")??;
    let text = String::from_utf8_lossy(&answer);
    ensure!(text.starts_with("HTTP/1.1 200") && text.ends_with("0123456789"), "{text}");
    let status = pod.process.end().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}
