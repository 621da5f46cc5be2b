//! Sidecars that are sent what istiod sends, with their certificates from an agent's socket.

mod istiod;
mod shapes;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use weft_netns::{Host, Network, ensure_privileged};
use weft_testkit::{DEADLINE, Process, Upstream, until};
use weft_xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use weft_xds_proto::{Any, from_yaml, pack};

use crate::member::{PROXY_ADMIN_PORT, PROXY_USER, caller};
use crate::tcp::{Conversation, Greeter};
use crate::world::{Programs, connect, get_as, give, listen, open_folder};
use istiod::{Agent, Istiod, PORT};
use shapes::{Mode, VIRTUAL, client, server};

const WEB: &str = "web.default.svc.cluster.local";

/// Istiod, and the workloads `shop` and `web`. Processes end before the network goes.
struct Mesh {
    shop: Workload,
    web: Workload,
    istiod: Istiod,
    network: Network,
    _folder: TempDir,
}

struct Workload {
    _process: Process,
    host: Host,
    node: String,
    _agent: Agent,
}

impl Mesh {
    async fn start() -> Result<Self> {
        ensure_privileged()?;
        let network = Network::create("wtist")?;
        let (folder, programs) = (open_folder()?, Programs::shared()?);
        let control = network.host("istiod")?;
        let istiod = Istiod::start(&control)?;
        let authority = Authority::new()?;
        let (shop, web) = (network.host("shop")?, network.host("web")?);
        istiod.serve(&node("shop", &shop), 1, &client(web.ipv4())?)?;
        istiod.serve(&node("web", &web), 1, &server(Mode::Permissive)?)?;
        let start = async |name, host| {
            Workload::start(name, host, control.ipv4(), folder.path(), &programs, &authority).await
        };
        let (shop, web) = (start("shop", shop).await?, start("web", web).await?);
        Ok(Self { shop, web, istiod, network, _folder: folder })
    }

    fn nothing_was_refused(&self) -> Result<()> {
        let refused = self.istiod.refused();
        ensure!(refused.is_empty(), "{refused:#?}");
        Ok(())
    }
}

fn node(name: &str, host: &Host) -> String {
    format!("sidecar~{}~{name}.default~default.svc.cluster.local", host.ipv4())
}

fn service(port: u16) -> SocketAddr {
    (Ipv4Addr::from(VIRTUAL), port).into()
}

impl Workload {
    async fn start(
        name: &'static str,
        host: Host,
        control: Ipv4Addr,
        folder: &Path,
        programs: &Arc<Programs>,
        authority: &Authority,
    ) -> Result<Self> {
        let node = node(name, &host);
        let socket = folder.join(format!("{name}.sock"));
        let agent = Agent::start(&socket, authority.secrets(name)?)?;
        let file = folder.join(format!("{name}.json"));
        give(&file, PROXY_USER, &bootstrap(&node, control, &socket))?;
        let rules = host.command(programs.path("weft-init")).output()?;
        ensure!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
        let sidecar = programs.path("weft-sidecar");
        let mut command = host.command_as(PROXY_USER, PROXY_USER, sidecar);
        command.arg("-c").arg(file).args(["--concurrency", "2"]);
        let mut process = Process::start(command)?;
        process
            .ready_when("the proxy", || async {
                let admin = (Ipv4Addr::LOCALHOST, PROXY_ADMIN_PORT).into();
                let reply = get_as(&host, admin, "proxy", "/ready").await?;
                ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
                Ok(())
            })
            .await?;
        Ok(Self { _process: process, host, node, _agent: agent })
    }
}

fn bootstrap(node: &str, control: Ipv4Addr, socket: &Path) -> String {
    let http2 = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} },
    } });
    let cluster = |name: &str, address: serde_json::Value| {
        json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": http2,
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
            },
        })
    };
    let tcp = |address: Ipv4Addr, port: u16| json!({ "socket_address": { "address": address.to_string(), "port_value": port } });
    let source = json!({ "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3" });
    let bootstrap = json!({
        "node": { "id": node, "cluster": "istio-proxy" },
        "admin": { "address": tcp(Ipv4Addr::LOCALHOST, PROXY_ADMIN_PORT) },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds-grpc" } }],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": { "clusters": [
            cluster("xds-grpc", tcp(control, PORT)),
            cluster("sds-grpc", json!({ "pipe": { "path": socket } })),
        ] },
    });
    bootstrap.to_string()
}

/// The certificate authority of the mesh.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = root.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(root, key), root: pem })
    }

    /// The secrets of a workload, as istio's agent names them.
    fn secrets(&self, account: &str) -> Result<BTreeMap<String, Any>> {
        let mut leaf = CertificateParams::default();
        let identity = format!("spiffe://cluster.local/ns/default/sa/{account}");
        leaf.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
        let key = KeyPair::generate()?;
        let chain = leaf.signed_by(&key, &self.issuer)?.pem();
        let own = json!({ "name": "default", "tls_certificate": {
            "certificate_chain": { "inline_string": chain },
            "private_key": { "inline_string": key.serialize_pem() },
        } });
        let roots = json!({ "name": "ROOTCA", "validation_context": {
            "trusted_ca": { "inline_string": self.root },
        } });
        let secret = |name: &str, text: &serde_json::Value| -> Result<(String, Any)> {
            let secret: Secret =
                from_yaml(&text.to_string()).map_err(|error| anyhow!("{error}"))?;
            Ok((name.to_owned(), pack(&secret)))
        };
        [secret("default", &own), secret("ROOTCA", &roots)].into_iter().collect()
    }
}

#[tokio::test]
async fn a_permissive_workload_takes_mutual_tls_and_plaintext_and_a_strict_one_mutual_tls()
-> Result<()> {
    let mesh = Mesh::start().await?;
    let application = Upstream::serve("web", listen(&mesh.web.host, 8080)?)?;
    let reply = get_as(&mesh.shop.host, service(80), WEB, "/a").await?;
    ensure!(reply.status == 200 && reply.header("x-upstream") == "web", "{reply:?}");
    let identity = "URI=spiffe://cluster.local/ns/default/sa/shop";
    ensure!(caller(&application)?.contains(identity), "{}", caller(&application)?);
    let direct = (mesh.web.host.ipv4(), 8080).into();
    let stranger = mesh.network.host("stranger")?;
    let reply = get_as(&stranger, direct, "web", "/b").await?;
    ensure!(reply.status == 200 && reply.header("server") == "istio-envoy", "{reply:?}");
    ensure!(caller(&application)?.is_empty(), "{}", caller(&application)?);

    mesh.istiod.serve(&mesh.web.node, 2, &server(Mode::Strict)?)?;
    until("plaintext is refused", || async {
        ensure!(get_as(&stranger, direct, "web", "/c").await.is_err());
        Ok(())
    })
    .await?;
    let reply = get_as(&mesh.shop.host, service(80), WEB, "/d").await?;
    ensure!(reply.status == 200, "{reply:?}");
    ensure!(caller(&application)?.contains(identity), "{}", caller(&application)?);
    mesh.nothing_was_refused()
}

#[tokio::test]
async fn a_port_without_a_protocol_carries_http_and_anything_else_over_mutual_tls() -> Result<()> {
    let mesh = Mesh::start().await?;
    let listener = listen(&mesh.web.host, 9000)?;
    {
        let application = Upstream::serve("auto", listener)?;
        let reply = get_as(&mesh.shop.host, service(9000), WEB, "/a").await?;
        ensure!(reply.status == 200 && reply.header("x-upstream") == "auto", "{reply:?}");
        let identity = "URI=spiffe://cluster.local/ns/default/sa/shop";
        ensure!(caller(&application)?.contains(identity), "{}", caller(&application)?);
    }
    let listener = until("the port is free", || async { listen(&mesh.web.host, 9000) }).await?;
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut all = vec![0; 14];
        stream.read_exact(&mut all).await?;
        stream.write_all(&all).await
    });
    let mut stream = connect(&mesh.shop.host, service(9000)).await?;
    stream.write_all(b"\x00\x01no HTTP here").await?;
    let mut back = vec![0; 14];
    timeout(DEADLINE, stream.read_exact(&mut back)).await.context("no echo")??;
    ensure!(back == b"\x00\x01no HTTP here", "{back:?}");
    echo.await??;
    mesh.nothing_was_refused()
}

#[tokio::test]
async fn unknown_hosts_are_blocked_and_ports_of_tcp_pass_through() -> Result<()> {
    let mesh = Mesh::start().await?;
    let reply = get_as(&mesh.shop.host, service(80), "elsewhere.test", "/").await?;
    ensure!(reply.status == 502, "{reply:?}");
    // A server that speaks first, at the pod's own address, as for a headless service.
    let _greeter = Greeter::start(&mesh.web.host, 3306)?;
    let direct = (mesh.web.host.ipv4(), 3306).into();
    let conversation = Conversation::open(&mesh.shop.host, direct).await?;
    ensure!(conversation.greeting.contains("127.0.0.6"), "{}", conversation.greeting);
    mesh.nothing_was_refused()
}
