//! The proxy under test.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};
use weft_testkit::{Process, free_port, get, program};

use crate::world::{Held, local};

/// A `weft-sidecar` whose whole configuration comes from the control plane.
#[derive(Debug)]
pub(crate) struct Proxy {
    admin: SocketAddr,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Proxy {
    /// Starts it, and waits until it has what it needs.
    pub(crate) async fn start(server: SocketAddr, api: &str) -> Result<Self> {
        let admin = local(free_port());
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("bootstrap.json");
        std::fs::write(&file, bootstrap(server, admin, api).to_string())?;
        let mut command = Command::new(program("weft-sidecar"));
        command.arg("-c").arg(&file).args(["--concurrency", "1"]);
        let mut process = Process::start(command)?;
        process.ready(admin, "/ready").await?;
        Ok(Self { admin, _process: process, _folder: folder })
    }

    /// `/config_dump`
    pub(crate) async fn dump(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&get(self.admin, "/config_dump").await?.body)?)
    }

    /// The resources that serve, by type and name.
    pub(crate) async fn held(&self) -> Result<Held> {
        let dump = self.dump().await?;
        let mut held = Held::new();
        let places = [
            ("ClustersConfigDump", "dynamic_active_clusters", "/cluster", "name"),
            ("ListenersConfigDump", "dynamic_listeners", "/active_state/listener", "name"),
            ("RoutesConfigDump", "dynamic_route_configs", "/route_config", "name"),
            ("EndpointsConfigDump", "dynamic_endpoint_configs", "/endpoint_config", "cluster_name"),
        ];
        for (part, list, place, name) in places {
            let states = section(&dump, part)[list].as_array().cloned().unwrap_or_default();
            let resources = states.iter().filter_map(|state| state.pointer(place));
            held.extend(resources.map(|one| {
                let key = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
                ((key("@type"), key(name)), one.clone())
            }));
        }
        Ok(held)
    }
}

/// A part of a dump by the name of its message.
pub(crate) fn section<'a>(dump: &'a Value, part: &str) -> &'a Value {
    let suffix = format!(".{part}");
    let parts = dump["configs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut found =
        parts.iter().filter(|one| one["@type"].as_str().is_some_and(|url| url.ends_with(&suffix)));
    found.next().unwrap_or(&Value::Null)
}

fn bootstrap(server: SocketAddr, admin: SocketAddr, api: &str) -> Value {
    let address = |at: SocketAddr| json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } });
    let cluster = |name: &str| {
        let endpoint = json!({ "endpoint": { "address": address(server) } });
        json!({
            "name": name,
            "type": "STATIC",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {} },
                },
            },
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{ "lb_endpoints": [endpoint] }],
            },
        })
    };
    json!({
        "node": { "id": "proxy", "cluster": "interop" },
        "admin": { "address": address(admin) },
        "dynamic_resources": {
            "ads_config": {
                "api_type": api,
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "control-plane" } }],
            },
            "cds_config": { "ads": {}, "resource_api_version": "V3" },
            "lds_config": { "ads": {}, "resource_api_version": "V3" },
        },
        // Secrets come from the same server, but by a stream of their own.
        "static_resources": { "clusters": [cluster("control-plane"), cluster("secrets")] },
    })
}
