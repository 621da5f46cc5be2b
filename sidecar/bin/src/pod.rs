//! Running in a pod: see `weft-pod`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use weft_admin::{AdminState, DrainRequest, Readiness};
use weft_dns::{DnsServer, ResolvConf, Resolver};
use weft_pod::{PodEnvironment, ProxyState, StatusServers, wait_until_ready};
use weft_telemetry::{StatsQuery, prometheus_text};

use crate::state::State;

/// Where readiness is told.
const READINESS_PORT: u16 = 15021;
/// Where the name servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long an application is held back at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// A pod's proxy, about to start.
pub(crate) struct Pod {
    environment: PodEnvironment,
    /// What was made of it.
    pub(crate) bootstrap_file: PathBuf,
}

impl Pod {
    /// Reads the environment and writes the bootstrap file into the state folder.
    pub(crate) fn prepare(state_dir: Option<&Path>) -> Result<Self> {
        let mut environment =
            PodEnvironment::read(std::env::vars()).context("the pod's environment")?;
        if let Some(folder) = state_dir {
            folder.clone_into(&mut environment.bootstrap.state_dir);
        }
        let folder = &environment.bootstrap.state_dir;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the state folder {}", folder.display()))?;
        let bootstrap_file = folder.join("bootstrap.json");
        let text = environment.bootstrap.to_json()?.to_string();
        std::fs::write(&bootstrap_file, text)
            .with_context(|| format!("can't write {}", bootstrap_file.display()))?;
        Ok(Self { environment, bootstrap_file })
    }

    /// Starts what the kubelet, Prometheus and the application's resolver ask.
    pub(crate) fn serve(&self, state: &Arc<State>, tasks: &mut JoinSet<()>) -> Result<()> {
        let proxy: Arc<dyn ProxyState> = Arc::new(InPod(Arc::clone(state)));
        StatusServers::bind(&self.environment)?.serve(&self.environment, proxy, tasks);
        if self.environment.dns {
            let conf = ResolvConf::read(Path::new(RESOLV_CONF))?;
            let names = state.engine.lock().names();
            DnsServer::bind_local()?.serve(&Arc::new(Resolver::new(names, conf)), tasks);
        }
        Ok(())
    }
}

/// Waits for the proxy that runs beside.
pub(crate) fn wait() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(wait_until_ready(READINESS_PORT, PATIENCE))?)
}

struct InPod(Arc<State>);

impl ProxyState for InPod {
    fn is_ready(&self) -> bool {
        self.0.readiness() == Readiness::Live
    }

    fn metrics(&self) -> String {
        prometheus_text(&AdminState::metrics(&*self.0), &StatsQuery::default())
    }

    fn drain(&self) {
        AdminState::drain(&*self.0, DrainRequest { graceful: true, inbound_only: true });
    }

    fn quit(&self) {
        AdminState::quit(&*self.0);
    }
}
