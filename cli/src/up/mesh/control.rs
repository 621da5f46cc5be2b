//! The control plane's process.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;
use weft_netns::Host;

use crate::up::api::AdminApi;
use crate::up::place::Place;
use crate::up::process::{Process, output};

/// The user that the control plane runs as.
const USER: u32 = 1336;

/// The control plane, running or stopped.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    host: Host,
    process: Option<Process>,
    api: AdminApi,
}

impl ControlPlane {
    pub(crate) fn new(host: &Host) -> Self {
        Self { host: host.clone(), process: None, api: AdminApi::new(host, "") }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn api(&self) -> &AdminApi {
        &self.api
    }

    /// Starts it and waits until its Admin API answers.
    pub(crate) async fn start(&mut self, place: &Place) -> Result<()> {
        place.folder_for("control", Some(USER))?;
        let configuration = json!({ "data_dir": place.path("control") });
        let file =
            place.file_for("control.yaml", USER, &serde_saphyr::to_string(&configuration)?)?;
        let mut command = self.host.command_as(USER, USER, place.program("weft-control-plane"));
        command.arg("-c").arg(file);
        let mut process = Process::start("control-plane", command, place.log("control-plane"))?;
        let key_file = self.admin_key_file(place);
        let host = self.host.clone();
        process
            .ready(|| async {
                let key = std::fs::read_to_string(&key_file)
                    .with_context(|| format!("no {}", key_file.display()))?;
                AdminApi::new(&host, key.trim()).get("/apisix/admin/routes").await.map(drop)
            })
            .await?;
        self.api = AdminApi::new(&self.host, std::fs::read_to_string(&key_file)?.trim());
        self.process = Some(process);
        Ok(())
    }

    /// Ends it, if it runs.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.stop().await.map(drop),
            None => Ok(()),
        }
    }

    /// A token with which a workload proves its service account.
    pub(crate) async fn token(
        &self,
        place: &Place,
        namespace: &str,
        account: &str,
    ) -> Result<String> {
        let mut command = self.host.command_as(USER, USER, place.program("weft-control-plane"));
        command.arg("-c").arg(place.path("control.yaml"));
        command.args(["token", "--namespace", namespace, "--service-account", account]);
        Ok(output("weft-control-plane token", command).await?.trim().to_owned())
    }

    /// The certificate that everything in the mesh trusts.
    pub(crate) fn root_certificate(&self, place: &Place) -> PathBuf {
        place.path("control/ca/root-cert.pem")
    }

    pub(crate) fn admin_key_file(&self, place: &Place) -> PathBuf {
        place.path("control/admin-key")
    }
}
