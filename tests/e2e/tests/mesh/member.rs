//! A workload or edge: its namespace, interception rules and proxy.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft::bootstrap::{BootstrapOptions, Role};
use weft_netns::Host;
use weft_testkit::{Process, Upstream};

use crate::world::{NAMESPACE, World, get_as, give, listen};

/// The user that proxies run as, whose traffic the rules leave alone.
pub(crate) const PROXY_USER: u32 = 1337;
pub(crate) const PROXY_ADMIN_PORT: u16 = 15000;

/// What a member is.
#[derive(Clone)]
pub(crate) struct Profile {
    name: &'static str,
    namespace: &'static str,
    role: Role,
    ports: Vec<&'static str>,
    families: Families,
    edit: fn(&mut Value),
}

/// The addresses that a member tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Families {
    V4,
    V6,
    Both,
}

impl Profile {
    /// A workload with these ports, as `http:8080`; its label `app` is its name.
    pub(crate) fn workload(name: &'static str, ports: &[&'static str]) -> Self {
        Self {
            name,
            namespace: NAMESPACE,
            role: Role::Sidecar,
            ports: ports.to_vec(),
            families: Families::V4,
            edit: |_| {},
        }
    }

    pub(crate) fn edge() -> Self {
        let edge = Self::workload("edge", &[]);
        Self { namespace: "weft-edge", role: Role::Edge, ..edge }
    }

    pub(crate) fn families(self, families: Families) -> Self {
        Self { families, ..self }
    }

    /// With a change to its bootstrap.
    pub(crate) fn edited(self, edit: fn(&mut Value)) -> Self {
        Self { edit, ..self }
    }
}

/// A running member of the mesh.
pub(crate) struct Member {
    pub(crate) process: Process,
    pub(crate) host: Host,
    name: &'static str,
    namespace: &'static str,
}

impl Member {
    /// Starts the proxy of a member in a namespace of its own, and waits until it serves.
    pub(crate) async fn start(world: &World, profile: Profile) -> Result<Self> {
        let Profile { name, namespace, role, .. } = profile;
        let host = world.network.host(name)?;
        let file = world.path(&format!("{name}.json"));
        give(&file, PROXY_USER, &bootstrap(world, &host, &profile)?)?;
        if role == Role::Sidecar {
            let rules = host.command(world.program("weft-init")).output()?;
            ensure!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
        }
        let mut command = host.command_as(PROXY_USER, PROXY_USER, world.program("weft-sidecar"));
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
        Ok(Self { process, host, name, namespace })
    }

    /// Its identity in the mesh.
    pub(crate) fn identity(&self) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/{}", self.namespace, self.name)
    }

    /// The id under which the control plane knows it.
    pub(crate) fn is_node(&self, id: &str) -> bool {
        id.contains(&format!("~{}.{}~", self.name, self.namespace))
    }

    /// What the proxy's administration answers.
    pub(crate) async fn admin(&self, path: &str) -> Result<String> {
        let admin = (Ipv4Addr::LOCALHOST, PROXY_ADMIN_PORT).into();
        let reply = get_as(&self.host, admin, "proxy", path).await?;
        ensure!(reply.status == 200, "{path}: {}", reply.status);
        Ok(reply.text())
    }

    /// An HTTP application of the test on a port of this workload.
    pub(crate) fn application(&self, port: u16) -> Result<Upstream> {
        Ok(Upstream::serve(self.name, listen(&self.host, port)?)?)
    }
}

fn bootstrap(world: &World, host: &Host, profile: &Profile) -> Result<String> {
    let Profile { name, namespace, role, ports, families, edit } = profile;
    let file = |suffix: &str| world.path(&format!("{name}-{suffix}"));
    let root = fs::read_to_string(world.path("control/ca/root-cert.pem"))?;
    give(&file("root.pem"), PROXY_USER, &root)?;
    give(&file("token"), PROXY_USER, &world.token(namespace, name)?)?;
    fs::create_dir(file("state"))?;
    std::os::unix::fs::chown(file("state"), Some(PROXY_USER), Some(PROXY_USER))?;
    let v4 = (*families != Families::V6).then_some(IpAddr::V4(host.ipv4()));
    let v6 = host.ipv6().filter(|_| *families != Families::V4).map(IpAddr::V6);
    let ports = ports.iter().map(|port| port.parse().map_err(anyhow::Error::msg));
    let options = BootstrapOptions {
        name: (*name).to_owned(),
        namespace: (*namespace).to_owned(),
        service_account: (*name).to_owned(),
        address: v4.into_iter().chain(v6).collect(),
        labels: vec![("app".to_owned(), (*name).to_owned())],
        ports: ports.collect::<Result<_>>()?,
        role: *role,
        control_plane: world.control_address(),
        control_plane_port: 15012,
        server_name: "weft-control-plane".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        root_cert: file("root.pem"),
        token: file("token"),
        state_dir: file("state"),
    };
    let mut json = options.bootstrap().to_json()?;
    edit(&mut json);
    Ok(json.to_string())
}

/// The caller that a server's sidecar proved, for the last request that an application saw.
pub(crate) fn caller(upstream: &Upstream) -> Result<String> {
    let seen = upstream.seen();
    let last = seen.last().context("no request came")?;
    let header = last.headers.get("x-forwarded-client-cert");
    Ok(header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned())
}
