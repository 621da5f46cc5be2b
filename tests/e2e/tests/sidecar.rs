//! `weft-sidecar` with bootstrap files and no control plane.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_testkit::{Process, Upstream, free_port, get, program, until};

/// A sidecar with one of the example files, its ports replaced by free ones.
struct Sidecar {
    process: Process,
    listener: SocketAddr,
    admin: SocketAddr,
    _folder: tempfile::TempDir,
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace");
    fs::read_to_string(root.join("examples").join(name)).expect("an example")
}

fn sidecar(bootstrap: &Path) -> Command {
    let mut command = Command::new(program("weft-sidecar"));
    command.arg("-c").arg(bootstrap).args(["--concurrency", "2"]);
    command
}

impl Sidecar {
    /// Starts a sidecar and waits until it is ready; `replace` changes the example's text further.
    async fn start(name: &str, replace: &[(&str, String)]) -> Result<Self> {
        let (listener, admin) = (free_port(), free_port());
        let mut text = example(name)
            .replace("port_value: 10000", &format!("port_value: {listener}"))
            .replace("port_value: 10443", &format!("port_value: {listener}"))
            .replace("port_value: 15000", &format!("port_value: {admin}"));
        for (from, to) in replace {
            ensure!(text.contains(from), "{name} has no {from}");
            text = text.replace(from, to);
        }
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(name);
        fs::write(&file, text)?;
        let mut process = Process::start(sidecar(&file))?;
        process.ready(local(admin), "/ready").await?;
        Ok(Self { process, listener: local(listener), admin: local(admin), _folder: folder })
    }

    async fn with_backends(stable: SocketAddr, canary: SocketAddr) -> Result<Self> {
        let ports = [
            ("port_value: 8081", format!("port_value: {}", stable.port())),
            ("port_value: 8082", format!("port_value: {}", canary.port())),
        ];
        Self::start("static-http.yaml", &ports).await
    }
}

#[tokio::test]
async fn a_static_bootstrap_splits_requests_by_weight() -> Result<()> {
    let (stable, canary) = (Upstream::start("stable").await?, Upstream::start("canary").await?);
    let sidecar = Sidecar::with_backends(stable.address(), canary.address()).await?;
    for _ in 0..200 {
        let reply = get(sidecar.listener, "/some/path?x=1").await?;
        ensure!(reply.status == 200, "{reply:?}");
    }
    let (many, few) = (stable.seen().len(), canary.seen().len());
    ensure!(many + few == 200 && few > 2 && many > 140, "{many} and {few} of 200");
    let first = stable.seen().swap_remove(0);
    ensure!(first.path == "/some/path?x=1", "{first:?}");
    let forwarded = |name: &str| first.headers.get(name).is_some();
    ensure!(
        forwarded("x-forwarded-for") && forwarded("x-request-id") && forwarded("x-forwarded-proto"),
        "{first:?}"
    );
    ensure!(get(sidecar.listener, "/healthz").await?.text() == "ok\n");
    Ok(())
}

#[tokio::test]
async fn administration_shows_what_is_served() -> Result<()> {
    let backend = Upstream::start("backend").await?;
    let sidecar = Sidecar::with_backends(backend.address(), backend.address()).await?;
    ensure!(get(sidecar.listener, "/").await?.status == 200);
    let clusters = get(sidecar.admin, "/clusters").await?.text();
    ensure!(
        clusters.contains(&format!("stable::{}::health_flags::healthy", backend.address())),
        "{clusters}"
    );
    let listeners = get(sidecar.admin, "/listeners").await?.text();
    ensure!(listeners.contains(&format!("http::{}", sidecar.listener)), "{listeners}");
    let dump: serde_json::Value =
        serde_json::from_slice(&get(sidecar.admin, "/config_dump").await?.body)?;
    ensure!(dump.to_string().contains("HttpConnectionManager"), "{dump}");
    let metrics = until("the request is counted", || async {
        let text = get(sidecar.admin, "/stats/prometheus").await?.text();
        let line = "envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix=\"http\"} 1";
        ensure!(text.contains(line), "{text}");
        Ok(text)
    })
    .await?;
    ensure!(metrics.contains("envoy_cluster_upstream_rq_total"), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn a_dead_backend_gives_503_with_its_reason_in_the_access_log() -> Result<()> {
    let dead = local(free_port());
    let mut sidecar = Sidecar::with_backends(dead, dead).await?;
    let reply = get(sidecar.listener, "/").await?;
    ensure!(reply.status == 503, "{reply:?}");
    ensure!(reply.text().starts_with("upstream connect error"), "{reply:?}");
    let line = sidecar.process.line_with("\"GET / HTTP/1.1\" 503 ").await?;
    ensure!(line.contains("URX") && line.contains("UF"), "{line}");
    Ok(())
}

#[tokio::test]
async fn tcp_is_relayed_both_ways() -> Result<()> {
    let backend = TcpListener::bind("127.0.0.1:0").await?;
    let port = format!("port_value: {}", backend.local_addr()?.port());
    let sidecar = Sidecar::start("tcp.yaml", &[("port_value: 8081", port)]).await?;
    let echo = tokio::spawn(async move {
        let (mut stream, _) = backend.accept().await?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        stream.write_all(&all).await?;
        stream.shutdown().await
    });
    let mut client = TcpStream::connect(sidecar.listener).await?;
    let sent = vec![42; 300_000];
    client.write_all(&sent).await?;
    client.shutdown().await?;
    let mut back = Vec::new();
    client.read_to_end(&mut back).await?;
    ensure!(back == sent, "{} of {} bytes came back", back.len(), sent.len());
    echo.await??;
    Ok(())
}

/// A certificate for `localhost` in files.
fn certificate(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (chain, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&chain, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    Ok((chain, key))
}

#[tokio::test]
async fn every_example_is_valid() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (chain, key) = certificate(folder.path())?;
    for name in ["static-http.yaml", "tcp.yaml", "tls-edge.yaml"] {
        let text = example(name)
            .replace("/tmp/cert.pem", chain.to_str().context("UTF-8")?)
            .replace("/tmp/key.pem", key.to_str().context("UTF-8")?);
        let file = folder.path().join(name);
        fs::write(&file, text)?;
        let mut command = sidecar(&file);
        command.args(["--mode", "validate"]);
        let mut process = Process::start(command)?;
        let status = process.end().await?;
        ensure!(status.success(), "{name}: {}", process.output());
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_bootstrap_ends_the_start_with_file_field_and_reason() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cases = [
        (
            "static-http.yaml",
            "stat_prefix: http",
            "stat_prefixx: http",
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.stat_prefixx",
        ),
        (
            "static-http.yaml",
            "port_value: 10000",
            "port_value: many",
            "static_resources.listeners[0].address.socket_address.port_value",
        ),
        ("static-http.yaml", "type: STATIC", "type: STATIK", "static_resources.clusters[0].type"),
        ("static-http.yaml", "{prefix: /}", "{safe_regex: {regex: '('}}", "match.safe_regex"),
        ("tls-edge.yaml", "/tmp/cert.pem", "/nowhere/cert.pem", "/nowhere/cert.pem"),
    ];
    for (name, from, to, place) in cases {
        let file = folder.path().join("bootstrap.yaml");
        fs::write(&file, example(name).replace(from, to))?;
        let mut process = Process::start(sidecar(&file))?;
        let status = process.end().await?;
        ensure!(status.code() == Some(1), "{to}: {status}: {}", process.output());
        let output = process.output();
        ensure!(output.contains("bootstrap.yaml") && output.contains(place), "{to}: {output}");
    }
    let mut process = Process::start(sidecar(Path::new("/nowhere.yaml")))?;
    ensure!(process.end().await?.code() == Some(1));
    ensure!(process.output().contains("/nowhere.yaml"), "{}", process.output());
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tcp.yaml");
    let text = example("tcp.yaml")
        .replace("port_value: 10000", &format!("port_value: {}", taken.local_addr()?.port()))
        .replace("port_value: 15000", &format!("port_value: {}", free_port()));
    fs::write(&file, text)?;
    let mut process = Process::start(sidecar(&file))?;
    ensure!(process.end().await?.code() == Some(1), "{}", process.output());
    let output = process.output();
    ensure!(
        output.contains("in use") && output.contains(&taken.local_addr()?.to_string()),
        "{output}"
    );
    Ok(())
}

#[tokio::test]
async fn a_request_in_flight_survives_sigterm() -> Result<()> {
    let backend = TcpListener::bind("127.0.0.1:0").await?;
    let address = backend.local_addr()?;
    let mut sidecar = Sidecar::with_backends(address, address).await?;
    let (listener, admin) = (sidecar.listener, sidecar.admin);
    let request = tokio::spawn(async move { get(listener, "/slow").await });
    let (mut stream, _) = backend.accept().await?;
    let mut head = vec![0; 4096];
    let read = stream.read(&mut head).await?;
    ensure!(head[..read].starts_with(b"GET /slow"));
    sidecar.process.signal(Signal::SIGTERM)?;
    until("readiness fails", || async {
        ensure!(get(admin, "/ready").await?.status == 503);
        Ok(())
    })
    .await?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await?;
    let reply = request.await??;
    ensure!(reply.status == 200 && reply.text() == "done", "{reply:?}");
    ensure!(reply.header("connection") == "close", "{reply:?}");
    let status = sidecar.process.end().await?;
    ensure!(status.success(), "{status}: {}", sidecar.process.output());
    Ok(())
}
