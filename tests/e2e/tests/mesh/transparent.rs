//! Inbound interception that keeps the client's address (TPROXY), without a control plane.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use weft_netns::{Host, Network, ensure_privileged};
use weft_testkit::{Process, program, until};

use crate::tcp::{Conversation, Greeter};

/// What istiod sends a sidecar for TPROXY, in short: everything goes to where the client wanted.
const BOOTSTRAP: &str = "
node: { id: pod, cluster: pod }
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 15000 } } }
static_resources:
  listeners:
  - name: virtualInbound
    address: { socket_address: { address: 0.0.0.0, port_value: 15006 } }
    additional_addresses: [{ address: { socket_address: { address: '::', port_value: 15006 } } }]
    transparent: true
    traffic_direction: INBOUND
    listener_filters:
    - name: envoy.filters.listener.original_dst
      typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst }
    - name: envoy.filters.listener.original_src
      typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.listener.original_src.v3.OriginalSrc, mark: 1337 }
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: inbound, cluster: application }
  clusters:
  - { name: application, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, connect_timeout: 1s }
";

fn init(pod: &Host, arguments: &[&str]) -> Result<String> {
    let output = pod.command(program("weft-init")).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

/// The proxy's user, with the one privilege that TPROXY needs.
fn sidecar(pod: &Host, bootstrap: &std::path::Path) -> Result<Process> {
    let mut command = pod.command("setpriv");
    command.args(["--reuid=1337", "--regid=1337", "--clear-groups"]);
    command.args(["--inh-caps=+net_admin", "--ambient-caps=+net_admin"]);
    command.arg(program("weft-sidecar")).arg("-c").arg(bootstrap).args(["--concurrency", "1"]);
    Process::start(command)
}

/// How many connections the sidecar has carried.
async fn carried(pod: &Host) -> Result<u64> {
    let admin: SocketAddr = ([127, 0, 0, 1], 15000).into();
    let stats = crate::world::get_as(pod, admin, "admin", "/stats?filter=tcp.inbound").await?;
    let text = stats.text();
    let line = text.lines().find_map(|line| line.strip_prefix("tcp.inbound.downstream_cx_total: "));
    Ok(line.context("no such counter")?.trim().parse()?)
}

#[tokio::test]
async fn the_application_sees_the_client_though_the_sidecar_carries_its_bytes() -> Result<()> {
    ensure_privileged()?;
    let network = Network::create("wtproxy")?;
    let (pod, client) = (network.host("pod")?, network.host("client")?);
    let folder = tempfile::tempdir()?;
    let bootstrap = folder.path().join("bootstrap.yaml");
    std::fs::write(&bootstrap, BOOTSTRAP)?;
    std::os::unix::fs::chown(folder.path(), Some(1337), Some(1337))?;
    let _application = Greeter::start(&pod, 8080)?;
    ensure!(init(&pod, &["-m", "TPROXY"])?.contains("installed"));
    ensure!(init(&pod, &["-m", "TPROXY"])?.contains("already in place"));
    let mut proxy = sidecar(&pod, &bootstrap)?;
    until("the sidecar's administration", || async { carried(&pod).await.map(drop) })
        .await
        .with_context(|| proxy.output())?;
    let six = pod.ipv6().zip(client.ipv6()).context("this kernel has no IPv6")?;
    let pairs: [(IpAddr, IpAddr); 2] =
        [(pod.ipv4().into(), client.ipv4().into()), (six.0.into(), six.1.into())];
    for (at, (pod_address, client_address)) in pairs.into_iter().enumerate() {
        let mut talk = Conversation::open(&client, (pod_address, 8080).into())
            .await
            .with_context(|| proxy.output())?;
        let seen = talk.greeting.trim_end().strip_prefix("220 hello ").unwrap_or_default();
        let seen: IpAddr = seen.parse().with_context(|| talk.greeting.clone())?;
        ensure!(seen.to_canonical() == client_address, "seen as {seen}");
        talk.say("through the sidecar").await?;
        ensure!(carried(&pod).await? == at as u64 + 1, "the sidecar was passed by");
    }
    ensure!(init(&pod, &["--cleanup"])?.contains("removed"));
    let rules = pod.command("ip").args(["rule", "list"]).output()?.stdout;
    ensure!(!String::from_utf8_lossy(&rules).contains("fwmark"), "a routing rule is left");
    let direct = Conversation::open(&client, (pod.ipv4(), 8080).into()).await?;
    ensure!(direct.greeting.contains(&client.ipv4().to_string()), "{}", direct.greeting);
    proxy.stop().await?;
    Ok(())
}
