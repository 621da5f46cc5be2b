//! h2spec, a client that tries what RFC 9113 and RFC 7541 say of servers, against the proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::{Process, free_port, program};

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

#[tokio::test]
async fn nothing_that_h2spec_tries_is_answered_wrongly() -> Result<()> {
    let [listener, admin] = [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bootstrap.json");
    std::fs::write(&file, bootstrap(listener, admin).to_string())?;
    let mut command = Command::new(program("weft-sidecar"));
    command.arg("-c").arg(&file).args(["--concurrency", "1"]);
    let mut proxy = Process::start(command)?;
    proxy.ready(admin, "/ready").await?;
    let port = listener.port().to_string();
    let mut h2spec = tokio::process::Command::new(program("interop/h2spec"));
    h2spec.args(["--strict", "--timeout", "30", "--host", "127.0.0.1", "--port", &port]);
    let output = h2spec.output().await.context("h2spec: run make test-interop")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains(" 0 failed"), "{said}");
    Ok(())
}

/// A proxy that answers by itself.
fn bootstrap(listener: SocketAddr, admin: SocketAddr) -> Value {
    let address = |at: SocketAddr| json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } });
    // Not at once: what is tried on a stream has to come before its answer.
    let delay = json!({
        "@type": FAULT,
        "delay": { "fixed_delay": "0.1s", "percentage": { "numerator": 100 } },
    });
    let route = json!({ "match": { "prefix": "/" }, "direct_response": { "status": 200, "body": { "inline_string": "ok" } } });
    let manager = json!({
        "@type": MANAGER,
        "stat_prefix": "h2spec",
        // What is no preface of HTTP/2 would be HTTP/1 otherwise.
        "codec_type": "HTTP2",
        "route_config": {
            "name": "local",
            "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }],
        },
        "http_filters": [{ "name": "fault", "typed_config": delay }, { "name": "router", "typed_config": { "@type": ROUTER } }],
    });
    json!({
        "node": { "id": "h2spec", "cluster": "interop" },
        "admin": { "address": address(admin) },
        "static_resources": { "listeners": [{
            "name": "h2spec",
            "address": address(listener),
            "filter_chains": [{ "filters": [{ "name": "manager", "typed_config": manager }] }],
        }] },
    })
}
