//! Pods on two nodes: everything that passes between them, and many that come and go.

mod churn;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Request;
use weft_dns::{DnsServer, ResolvConf, Resolver};
use weft_model::{NameTable, NamedHost, Slot};
use weft_netns::{Host, Node};
use weft_testkit::{DEADLINE, Upstream, until};

use crate::grpc::service::{Client, Line, Server};
use crate::member::caller;
use crate::pod::{Pod, PodSpec};
use crate::tcp::{Conversation, Greeter, publish};
use crate::world::{World, get_as};

/// A pod's own answer to DNS queries.
const CAPTURE_DNS: (&str, &str) =
    ("proxy.istio.io/config", "{proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}}");
const SEARCH: &str = "demo.svc.cluster.local svc.cluster.local cluster.local";

/// Two machines with pods, and a name server.
struct Cluster {
    world: World,
    nodes: [Node; 2],
    name_server: Host,
    names: Slot<NameTable>,
    _tasks: JoinSet<()>,
}

impl Cluster {
    async fn start() -> Result<Self> {
        let world = World::start_in_cluster().await?;
        let nodes = [world.network.node("node-a")?, world.network.node("node-b")?];
        let name_server = world.network.host("dns")?;
        let names = Slot::filled(Arc::default());
        let mut tasks = JoinSet::new();
        let runtime = tokio::runtime::Handle::current();
        let server = name_server.enter(|| {
            let _runtime = runtime.enter();
            DnsServer::bind((name_server.ipv4(), 53).into())
        })??;
        let resolver = Arc::new(Resolver::new(names.clone(), ResolvConf::default()));
        server.serve(&resolver, &mut tasks);
        Ok(Self { world, nodes, name_server, names, _tasks: tasks })
    }

    /// A pod that looks names up as pods do.
    async fn pod(&self, node: usize, name: &str, spec: &PodSpec) -> Result<Pod> {
        let host = self.world.network.host_on(&self.nodes[node], name)?;
        let server = self.name_server.ipv4();
        host.write_resolv_conf(&format!(
            "nameserver {server}\nsearch {SEARCH}\noptions ndots:5\n"
        ))?;
        Pod::start_on(&self.world, host, spec).await
    }

    /// What the cluster's own name server says.
    fn name(&self, name: &str, addresses: Vec<IpAddr>) {
        let host = NamedHost { addresses, ports: Vec::new() };
        self.names.set(Arc::new(NameTable::new([(name.to_owned(), host)])));
    }
}

/// Looks a name up as programs do, with the system's resolver.
fn look_up(host: &Host, family: &str, name: &str) -> Result<Vec<IpAddr>> {
    let output = host.command("getent").args([family, name]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let addresses = text.lines().filter_map(|line| line.split_whitespace().next());
    let mut addresses: Vec<IpAddr> =
        addresses.map(|text| text.parse().context("no address")).collect::<Result<_>>()?;
    addresses.dedup();
    Ok(addresses)
}

fn captures_dns() -> PodSpec {
    let (annotation, value) = CAPTURE_DNS;
    PodSpec { annotations: vec![(annotation, value.to_owned())], ..PodSpec::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_answered_by_the_sidecar_and_others_by_their_servers() -> Result<()> {
    let cluster = Cluster::start().await?;
    let web = cluster.pod(1, "web", &PodSpec::default()).await?;
    let application = web.application(8080)?;
    let client = cluster.pod(0, "client", &captures_dns()).await?;
    let inside = cluster.world.publish("web", 8080, &json!({}), &json!({})).await?;
    cluster.name("pods.demo.svc.cluster.local", web.host.addresses());
    // Names of the mesh, which have virtual addresses only: alone, and with a search domain.
    until("the mesh's names", || async {
        let found = look_up(&client.host, "ahostsv4", "web")?;
        ensure!(found == [inside.ip()], "{found:?} instead of {inside}");
        Ok(())
    })
    .await?;
    for name in ["web.", "web.weft.test", "WEB.demo.svc.cluster.local"] {
        let found = look_up(&client.host, "ahostsv4", name)?;
        ensure!(found == [inside.ip()] || name == "web.weft.test", "{name}: {found:?}");
        ensure!(!found.is_empty(), "{name} is not found");
    }
    let reply =
        get_as(&client.host, (found_one(&client.host, "web")?, 80).into(), "web", "/").await?;
    ensure!(reply.status == 200, "{}", reply.status);
    ensure!(caller(&application)?.contains(&client.identity()), "not over mTLS");
    // A headless Service: its pods' own addresses, of both families, from the cluster's server.
    let found = look_up(&client.host, "ahosts", "pods")?;
    ensure!(web.host.addresses().iter().all(|one| found.contains(one)), "{found:?}");
    for address in web.host.addresses() {
        let to = SocketAddr::new(address, 8080);
        let reply = get_as(&client.host, to, "pods", "/headless").await?;
        ensure!(reply.status == 200, "{to}: {}", reply.status);
    }
    ensure!(look_up(&client.host, "ahosts", "nowhere.test")?.is_empty(), "found");
    Ok(())
}

fn found_one(host: &Host, name: &str) -> Result<IpAddr> {
    look_up(host, "ahostsv4", name)?.first().copied().with_context(|| format!("no {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_between_pods_of_two_nodes_is_what_was_sent() -> Result<()> {
    let cluster = Cluster::start().await?;
    let world = &cluster.world;
    let web = cluster.pod(1, "web", &PodSpec::default()).await?;
    let application = web.application(8080)?;
    let lines = PodSpec { port: Some(("grpc", 9000)), ..PodSpec::default() };
    let lines = cluster.pod(1, "lines", &lines).await?;
    let server = Server::start(&lines.host, 9000)?;
    let annotations = vec![
        ("traffic.sidecar.istio.io/excludeInboundPorts", "9999".to_owned()),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306".to_owned()),
    ];
    let mail = PodSpec { port: Some(("tcp", 2525)), annotations: annotations.clone() };
    let mail = cluster.pod(1, "mail", &mail).await?;
    let _greeters = [2525, 9999, 3306].map(|port| Greeter::start(&mail.host, port)).map(Result::ok);
    let client = PodSpec { annotations, ..PodSpec::default() };
    let client = cluster.pod(0, "client", &client).await?;

    let inside = world.publish("web", 8080, &json!({}), &json!({})).await?;
    let (to_grpc, to_mail) = (
        world.publish("lines", 9000, &json!({}), &json!({ "scheme": "grpc" })).await?,
        publish(world, "mail", 2525).await?,
    );
    until("an answer", || called(&client, inside, "web", &application)).await?;
    let mut grpc = Client::connect(&client.host, to_grpc, "lines").await?;
    until("a first call", || async {
        Ok(grpc.clone().upper(Request::new(Line::of("x"))).await.map(drop)?)
    })
    .await?;
    let answer = grpc.upper(Request::new(Line::of("hello"))).await?;
    ensure!(answer.get_ref().text == "HELLO", "{answer:?}");
    ensure!(server.caller().contains(&client.identity()), "{}", server.caller());
    until("a greeting", || Conversation::open(&client.host, to_mail)).await?.say("hello").await?;

    of_both_families(&web, &client, &application).await?;
    to_itself(&web, inside, &application).await?;
    excluded_ports(&client, &mail).await?;
    datagrams(&client, &web).await
}

/// A call that the server saw as this client's.
async fn called(from: &Pod, to: SocketAddr, name: &str, server: &Upstream) -> Result<()> {
    let reply = get_as(&from.host, to, name, "/").await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    let seen = caller(server)?;
    ensure!(seen.contains(&from.identity()), "seen as {seen:?}");
    Ok(())
}

/// The pod's own addresses, as headless Services give them.
async fn of_both_families(web: &Pod, client: &Pod, application: &Upstream) -> Result<()> {
    ensure!(web.host.addresses().len() == 2, "no IPv6 here");
    for address in web.host.addresses() {
        let reply = get_as(&client.host, (address, 8080).into(), "web", "/direct").await?;
        ensure!(reply.status == 200, "{address}: {}", reply.status);
        let seen = application.seen();
        let seen = seen.last().context("no request")?;
        ensure!(seen.path == "/direct" && seen.headers.contains_key("x-request-id"), "{seen:?}");
    }
    Ok(())
}

/// A pod that calls its own service meets the policies of its inbound side.
async fn to_itself(web: &Pod, inside: SocketAddr, application: &Upstream) -> Result<()> {
    until("its own answer", || called(web, inside, "web", application)).await?;
    let reply = get_as(&web.host, web.at(8080), "web", "/own-address").await?;
    ensure!(reply.status == 200, "{}", reply.status);
    let reply = get_as(&web.host, ([127, 0, 0, 1], 8080).into(), "web", "/loopback").await?;
    ensure!(reply.status == 200, "{}", reply.status);
    let seen = application.seen();
    let seen = seen.last().context("no request")?;
    ensure!(!seen.headers.contains_key("x-request-id"), "loopback is intercepted: {seen:?}");
    Ok(())
}

/// They pass by both sidecars: also while those are stopped.
async fn excluded_ports(client: &Pod, mail: &Pod) -> Result<()> {
    let direct = Conversation::open(&client.host, mail.at(9999)).await?;
    let own = client.host.ipv4().to_string();
    ensure!(direct.greeting.contains(&own), "inbound: {}", direct.greeting);
    client.process.signal(Signal::SIGSTOP)?;
    let talked = Conversation::open(&client.host, mail.at(3306)).await;
    client.process.signal(Signal::SIGCONT)?;
    talked.context("outbound")?.say("hello").await
}

/// UDP is nobody's business: sources are kept, nothing is redirected.
async fn datagrams(client: &Pod, web: &Pod) -> Result<()> {
    let runtime = tokio::runtime::Handle::current();
    let bind = |host: &Host, address: IpAddr, port: u16| -> Result<UdpSocket> {
        Ok(host.enter(|| {
            let _runtime = runtime.enter();
            let socket = std::net::UdpSocket::bind((address, port))?;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        })??)
    };
    for (from, to) in client.host.addresses().into_iter().zip(web.host.addresses()) {
        let (one, other) = (bind(&client.host, from, 0)?, bind(&web.host, to, 7777)?);
        one.send_to(b"hello", (to, 7777)).await?;
        let mut buffer = [0; 16];
        let (length, seen) = timeout(DEADLINE, other.recv_from(&mut buffer)).await??;
        ensure!((&buffer[..length], seen) == (b"hello", one.local_addr()?), "from {seen}");
        other.send_to(b"there", seen).await?;
        let (length, seen) = timeout(DEADLINE, one.recv_from(&mut buffer)).await??;
        ensure!((&buffer[..length], seen) == (b"there", other.local_addr()?), "from {seen}");
    }
    Ok(())
}
