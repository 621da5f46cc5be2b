//! One workload or edge: its namespace, interception rules, sidecar and application.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use weft_netns::{Host, Network};

use super::{APPLICATION_PORT, APPLICATION_USER, ControlPlane, NAMESPACE, SERVICE};
use crate::bootstrap::{BootstrapOptions, Port, Role};
use crate::up::api::get;
use crate::up::place::Place;
use crate::up::process::{Process, output};

/// The user that proxies run as, whose traffic the rules leave alone.
const PROXY_USER: u32 = 1337;
const PROXY_ADMIN_PORT: u16 = 15000;

/// What a member is.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    name: String,
    namespace: &'static str,
    account: &'static str,
    labels: Vec<(String, String)>,
    role: Role,
    /// The version that its application tells; none without an application.
    version: Option<&'static str>,
}

impl Profile {
    pub(crate) fn edge() -> Self {
        Self {
            name: "edge".to_owned(),
            namespace: "weft-edge",
            account: "edge",
            labels: vec![label("app", "edge")],
            role: Role::Edge,
            version: None,
        }
    }

    pub(crate) fn client() -> Self {
        Self {
            name: "client".to_owned(),
            namespace: NAMESPACE,
            account: "client",
            labels: vec![label("app", "client"), label("version", "v1")],
            role: Role::Sidecar,
            version: None,
        }
    }

    pub(crate) fn greeter(version: &'static str) -> Self {
        Self {
            name: format!("{SERVICE}-{version}"),
            namespace: NAMESPACE,
            account: SERVICE,
            labels: vec![label("app", SERVICE), label("version", version)],
            role: Role::Sidecar,
            version: Some(version),
        }
    }
}

/// A running member of the mesh.
#[derive(Debug)]
pub(crate) struct Member {
    profile: Profile,
    host: Host,
    sidecar: Option<Process>,
    application: Option<Process>,
}

impl Member {
    /// Starts a member in a namespace of its own.
    pub(crate) async fn start(
        network: &Network,
        place: &Place,
        control: &ControlPlane,
        profile: Profile,
    ) -> Result<Self> {
        let host = network.host(&profile.name)?;
        let mut member = Self { profile, host, sidecar: None, application: None };
        member.write_bootstrap(place, control).await?;
        if member.profile.role == Role::Sidecar {
            let rules = member.host.command(place.program("weft-init"));
            output("weft-init", rules).await?;
        }
        member.start_application(place).await?;
        member.start_sidecar(place).await?;
        Ok(member)
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Its identity in the mesh.
    pub(crate) fn identity(&self) -> String {
        let Profile { namespace, account, .. } = &self.profile;
        format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
    }

    /// Starts the proxy and waits until it serves.
    pub(crate) async fn start_sidecar(&mut self, place: &Place) -> Result<()> {
        let name = format!("{}-sidecar", self.profile.name);
        let mut command =
            self.host.command_as(PROXY_USER, PROXY_USER, place.program("weft-sidecar"));
        command.arg("-c").arg(place.path(&self.bootstrap_file()));
        let mut sidecar = Process::start(&name, command, place.log(&name))?;
        let admin = (Ipv4Addr::LOCALHOST, PROXY_ADMIN_PORT).into();
        let host = self.host.clone();
        sidecar
            .ready(|| async {
                let (status, body) = get(&host, admin, "/ready").await?;
                if status == 200 {
                    return Ok(());
                }
                bail!("/ready answers {status} {}", String::from_utf8_lossy(&body).trim())
            })
            .await?;
        self.sidecar = Some(sidecar);
        Ok(())
    }

    /// Ends the proxy, if it runs.
    pub(crate) async fn stop_sidecar(&mut self) -> Result<()> {
        match self.sidecar.take() {
            Some(sidecar) => sidecar.stop().await.map(drop),
            None => Ok(()),
        }
    }

    /// Ends proxy and application.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let result = self.stop_sidecar().await;
        match self.application.take() {
            Some(application) => result.and(application.stop().await.map(drop)),
            None => result,
        }
    }

    async fn start_application(&mut self, place: &Place) -> Result<()> {
        let Some(version) = self.profile.version else {
            return Ok(());
        };
        let program = place.program("weft");
        let mut command = self.host.command_as(APPLICATION_USER, APPLICATION_USER, program);
        command.args(["workload", "serve", "--service", SERVICE, "--service-version", version]);
        let everywhere = if self.host.ipv6().is_some() { "[::]" } else { "0.0.0.0" };
        command.args(["--listen", &format!("{everywhere}:{APPLICATION_PORT}")]);
        let name = format!("{}-application", self.profile.name);
        let mut application = Process::start(&name, command, place.log(&name))?;
        let address = (Ipv4Addr::LOCALHOST, APPLICATION_PORT).into();
        let host = self.host.clone();
        application.ready(|| async { get(&host, address, "/").await.map(drop) }).await?;
        self.application = Some(application);
        Ok(())
    }

    async fn write_bootstrap(&self, place: &Place, control: &ControlPlane) -> Result<()> {
        let Profile { name, namespace, account, labels, role, version } = &self.profile;
        let token = control.token(place, namespace, account).await?;
        let root = control.root_certificate(place);
        let root =
            fs::read_to_string(&root).with_context(|| format!("cannot read {}", root.display()))?;
        let options = BootstrapOptions {
            name: name.clone(),
            namespace: (*namespace).to_owned(),
            service_account: (*account).to_owned(),
            address: self.host.addresses(),
            labels: labels.clone(),
            ports: version.map(|_| application_port()).into_iter().collect(),
            role: *role,
            control_plane: control.host().ipv4().into(),
            control_plane_port: 15012,
            server_name: "weft-control-plane".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            root_cert: place.file_for(&format!("{name}-root.pem"), PROXY_USER, &root)?,
            token: place.file_for(&format!("{name}-token"), PROXY_USER, &token)?,
            state_dir: place.folder_for(&format!("{name}-state"), Some(PROXY_USER))?,
        };
        let text = options.to_yaml()?;
        place.file_for(&self.bootstrap_file(), PROXY_USER, &text).map(drop)
    }

    fn bootstrap_file(&self) -> String {
        format!("{}.yaml", self.profile.name)
    }
}

fn label(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn application_port() -> Port {
    Port { name: Some("http".to_owned()), number: APPLICATION_PORT }
}
