//! The mesh of the demonstration: a control plane, an edge, three workloads,
//! and one host that is not in the mesh.

mod control;
mod member;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use weft_netns::{Host, Network};

use super::api::AdminApi;
use super::load::{Load, Sample};
use super::place::Place;
use super::process::{run, wait_for};
use super::screen::Screen;
pub(crate) use control::ControlPlane;
pub(crate) use member::{Member, Profile};

/// The name that the client calls.
pub(crate) const SERVICE: &str = "greeter";
/// The name under which the edge serves the same.
pub(crate) const PUBLIC_NAME: &str = "greeter.weft.test";
/// The namespace of the workloads, as in Kubernetes.
pub(crate) const NAMESPACE: &str = "demo";
/// The port that the applications listen on.
pub(crate) const APPLICATION_PORT: u16 = 8080;
/// The route under test.
pub(crate) const ROUTE: &str = "/apisix/admin/routes/greeter";
/// The user that applications run as.
const APPLICATION_USER: u32 = 1000;
const REGISTERED_WITHIN: Duration = Duration::from_secs(20);

/// Everything that runs. Dropping it ends all of it.
#[derive(Debug)]
pub(crate) struct Mesh<'a> {
    place: &'a Place,
    // Processes are declared before the network, so that they end before it goes.
    pub(crate) control: ControlPlane,
    pub(crate) client: Member,
    pub(crate) first: Member,
    pub(crate) second: Member,
    pub(crate) edge: Member,
    pub(crate) outsider: Host,
    pub(crate) network: Network,
}

impl<'a> Mesh<'a> {
    /// Starts everything, in the order in which a person would.
    pub(crate) async fn start(screen: &Screen, place: &'a Place) -> Result<Self> {
        let network = Network::create("weft")?;
        screen.progress(
            "network namespaces: control, edge, client, greeter-v1, greeter-v2, outsider",
        );
        let control = network.host("control")?;
        let outsider = network.host("outsider")?;
        let mut control = ControlPlane::new(&control);
        control.start(place).await?;
        screen.progress("control plane ready: embedded store, certificate authority, xDS");
        let edge = Member::start(&network, place, &control, Profile::edge()).await?;
        screen.progress("edge ready on 9080 and 9443");
        let first = Member::start(&network, place, &control, Profile::greeter("v1")).await?;
        let second = Member::start(&network, place, &control, Profile::greeter("v2")).await?;
        let client = Member::start(&network, place, &control, Profile::client()).await?;
        screen.progress("three workloads ready, each behind its sidecar and interception rules");
        let mesh = Self { place, control, client, first, second, edge, outsider, network };
        mesh.publish().await?;
        let address = mesh.write_hosts_files().await?;
        screen.progress(&format!("http://{SERVICE}/ published at {address}: 90 % v1, 10 % v2"));
        Ok(mesh)
    }

    /// The folder of this run.
    pub(crate) fn place(&self) -> &'a Place {
        self.place
    }

    /// The Admin API.
    pub(crate) fn api(&self) -> &AdminApi {
        self.control.api()
    }

    /// Sets how many percent of the requests the second version gets.
    pub(crate) async fn split(&self, second_percent: u32) -> Result<()> {
        let weights = json!({ "plugins": traffic_split(second_percent) });
        self.api().patch(ROUTE, &weights).await.map(drop)
    }

    /// Calls the service from the client workload.
    pub(crate) async fn call(&self, count: u32, more: &[&str]) -> Result<Sample> {
        let mut command = self.caller();
        command.args(["--count", &count.to_string()]).args(more);
        command.args(["--connections", "4"]);
        let output = run("the client", command).await?;
        // A failed request is in the sample, for the check to judge.
        if output.stdout.is_empty() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("calling http://{SERVICE}/: {}: {}", output.status, stderr.trim());
        }
        Sample::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// Starts a client that calls the service until it is stopped.
    pub(crate) fn load(&self) -> Result<Load> {
        let mut command = self.caller();
        command.args(["--until-terminated", "--connections", "4", "--pause-ms", "2"]);
        Load::start(command)
    }

    fn caller(&self) -> std::process::Command {
        let host = self.client.host();
        let program = self.place.program("weft");
        let mut command = host.command_as(APPLICATION_USER, APPLICATION_USER, program);
        command.args(["workload", "call", &format!("http://{SERVICE}/")]);
        command
    }

    /// What a person can try while it runs, from this machine and inside the namespaces.
    pub(crate) fn directions(&self) -> Result<String> {
        self.network.uplink()?;
        let client = self.client.host().namespace();
        let control = self.control.host().namespace();
        let edge = self.edge.host().ipv4();
        let key = self.control.admin_key_file(self.place);
        Ok(format!(
            "\nThe mesh stays up until Ctrl-C. In another terminal, as root:\n  \
             ip netns exec {client} curl http://{SERVICE}/\n  \
             ip netns exec {client} curl 127.0.0.1:15000/clusters\n  \
             curl -k --resolve {PUBLIC_NAME}:9443:{edge} https://{PUBLIC_NAME}:9443/\n  \
             ip netns exec {control} curl -H \"X-API-KEY: $(cat {})\" 127.0.0.1:9180{ROUTE}\n\
             Logs, configuration and state: {}\n",
            key.display(),
            self.place.path("").display(),
        ))
    }

    /// Ends the processes in order and removes the namespaces.
    pub(crate) async fn stop(self) -> Result<()> {
        let mut result = Ok(());
        for member in [self.client, self.first, self.second, self.edge] {
            result = result.and(member.stop().await);
        }
        let mut control = self.control;
        result = result.and(control.stop().await);
        result.and(self.network.close().context("removing the namespaces"))
    }

    /// A canary: one route over two upstreams, whose nodes are the mesh's workloads.
    async fn publish(&self) -> Result<()> {
        for version in ["v1", "v2"] {
            let upstream = json!({
                "type": "roundrobin",
                "discovery_type": "mesh",
                "service_name": format!("{NAMESPACE}/{SERVICE}:{APPLICATION_PORT}"),
                "discovery_args": { "labels": { "version": version } },
            });
            let path = format!("/apisix/admin/upstreams/{SERVICE}-{version}");
            self.api().put(&path, &upstream).await?;
        }
        let route = json!({
            "uri": "/*",
            "hosts": [SERVICE, PUBLIC_NAME],
            "upstream_id": format!("{SERVICE}-v1"),
            "plugins": traffic_split(10),
        });
        self.api().put(ROUTE, &route).await.map(drop)
    }

    /// Waits until the service has its virtual address and both workloads, and
    /// tells every host of the mesh.
    async fn write_hosts_files(&self) -> Result<IpAddr> {
        let address = wait_for(REGISTERED_WITHIN, "the service with its workloads", || async {
            let services = self.api().get("/weft/admin/services").await?;
            let service = find(&services, "host", SERVICE)
                .with_context(|| format!("no {SERVICE} among the services: {services}"))?;
            let workloads = service["workloads"].as_u64().unwrap_or(0);
            if workloads < 2 {
                bail!("{workloads} of 2 workloads are registered");
            }
            let address = service["virtual_address"].as_str().unwrap_or_default();
            address.parse::<IpAddr>().with_context(|| format!("no virtual address: {service}"))
        })
        .await?;
        for member in [&self.client, &self.first, &self.second] {
            member.host().write_hosts([(address, SERVICE)])?;
        }
        Ok(address)
    }
}

fn traffic_split(second_percent: u32) -> Value {
    json!({
        "traffic-split": {
            "rules": [{
                "weighted_upstreams": [
                    { "weight": 100 - second_percent },
                    { "upstream_id": format!("{SERVICE}-v2"), "weight": second_percent },
                ],
            }],
        },
    })
}

/// The object with `key` = `value` anywhere in a document.
fn find<'v>(document: &'v Value, key: &str, value: &str) -> Option<&'v Value> {
    match document {
        Value::Object(object) => {
            if object.get(key).and_then(Value::as_str) == Some(value) {
                return Some(document);
            }
            object.values().find_map(|inner| find(inner, key, value))
        }
        Value::Array(items) => items.iter().find_map(|inner| find(inner, key, value)),
        _ => None,
    }
}
