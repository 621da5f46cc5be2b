//! Starting and ending.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_admin_api::{AdminState, router};
use weft_ca::SigningService;
use weft_control_model::{MeshConfig, ResourceKey, Resources};
use weft_discovery::{MeshRegistry, Saved};
use weft_store::{Expect, Follower, Put, Store, StoreError};

use crate::admin_key;
use crate::authority::Authority;
use crate::cluster::{Cluster, Registries};
use crate::config::Config;
use crate::directory::Directory;
use crate::engine::{Engine, Question};
use crate::identity::Door;
use crate::listening;
use crate::nodes::Nodes;
use crate::storage;
use crate::view::{Attempt, View};

/// Nodes that wait to be taken in.
const QUEUE: usize = 1024;
/// The file with this control plane's name within the data folder.
const REPLICA: &str = "replica";
/// How long what runs may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// Why the control plane could not start, with the cure.
pub type StartError = anyhow::Error;

/// A running control plane.
pub struct ControlPlane {
    /// Where the Admin API listens.
    pub admin: SocketAddr,
    /// Where nodes connect without TLS.
    pub plaintext: Option<SocketAddr>,
    /// Where nodes connect over TLS.
    pub tls: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

/// What the servers have in common.
struct Core {
    registry: Arc<MeshRegistry>,
    nodes: Arc<Nodes>,
    published: Arc<RwLock<Resources>>,
    authority: Authority,
    stop: CancellationToken,
}

impl ControlPlane {
    /// Opens store and authority, and serves.
    ///
    /// # Errors
    /// What is in the way: the data folder, the store's file, the authority's files, a port.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let data_dir = &config.data_dir;
        let store = storage::open(&config).await?;
        let mesh = settle_mesh(&*store, &config.mesh).await?;
        let cluster = match &config.kubernetes {
            Some(kubernetes) => Some(Cluster::open(kubernetes).await?),
            None => None,
        };
        let authority = Authority::open(&config, &mesh.trust_domain, cluster.as_ref())?;
        let core = Core {
            registry: Arc::new(MeshRegistry::new(config.registry.grace)),
            nodes: Arc::default(),
            published: Arc::default(),
            authority,
            stop: CancellationToken::new(),
        };
        let admin = listening::bind("the Admin API", config.admin.listen).await?;
        let tls = listening::bind("the TLS server for xDS", config.xds.tls).await?;
        let plaintext = match config.xds.plaintext {
            Some(address) => Some(listening::bind("the plaintext xDS server", address).await?),
            None => None,
        };
        let addresses = (
            admin.local_addr()?,
            plaintext.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?,
            tls.local_addr()?,
        );
        let mut tasks = JoinSet::new();
        let registries = Registries::new(Arc::clone(&core.registry), cluster.as_ref());
        let (arrivals, questions) =
            start_engine(&config, &store, &core, registries, &mut tasks).await?;
        if let Some(cluster) = cluster {
            let roots = core.authority.certificates.roots_pem().to_owned();
            tasks.spawn(until_stopped(core.stop.clone(), cluster.run(roots, Arc::clone(&store))));
        }
        let directory = |door| {
            Arc::new(Directory {
                door,
                authority: core.authority.clone(),
                edge: config.edge.clone(),
                whole_mesh: config.whole_mesh,
                arrivals: arrivals.clone(),
                nodes: Arc::clone(&core.nodes),
                registry: Arc::clone(&core.registry),
            })
        };
        if let Some(listener) = plaintext {
            let serving =
                listening::plaintext(listener, directory(Door::Plaintext), core.stop.clone());
            tasks.spawn(serving);
        }
        let (server_tls, renewal) = core.authority.server_tls()?;
        tasks.spawn(until_stopped(core.stop.clone(), renewal));
        let Authority { certificates, authenticators, .. } = core.authority.clone();
        let signing =
            SigningService::new(certificates, authenticators).with_names(config.service_names());
        let over_tls = directory(Door::Tls);
        tasks.spawn(listening::tls(tls, server_tls, over_tls, signing, core.stop.clone()));
        let api = router(admin_state(&config, store, &core, questions)?);
        tasks.spawn(listening::admin(admin, api, core.stop.clone()));
        let (admin, plaintext, tls) = addresses;
        tracing::info!(%admin, ?plaintext, %tls, data_dir = %data_dir.display(), "serving");
        Ok(Self { admin, plaintext, tls, stop: core.stop, tasks })
    }

    /// Waits until a part fails.
    ///
    /// # Errors
    /// Always; the part and its reason.
    pub async fn failure(&mut self) -> Result<()> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a task ended badly")??;
        }
        anyhow::bail!("every part of the control plane has ended")
    }

    /// Ends it: streams are closed so that nodes look for another control plane, requests under
    /// way are answered.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(ENDING, all).await.is_err() {
            tracing::warn!("not everything ended in {ENDING:?}; leaving it");
            self.tasks.shutdown().await;
        }
    }
}

/// The mesh's settings: the stored ones, else those of the configuration, which are stored.
async fn settle_mesh(store: &dyn Store, configured: &MeshConfig) -> Result<MeshConfig> {
    let key = ResourceKey::mesh().to_string();
    if let Some(entry) = store.get(&key).await? {
        let json = serde_json::from_slice(&entry.value).context("the stored mesh settings")?;
        return Ok(MeshConfig::from_json(&json)?);
    }
    if *configured == MeshConfig::default() {
        return Ok(configured.clone());
    }
    let value = serde_json::to_string(configured)?;
    let put = Put { expect: Expect::Absent, ..Put::new(key, value) };
    match store.put(put).await {
        // A declarative file that says nothing of the mesh leaves it to the configuration.
        Ok(_) | Err(StoreError::Conflict | StoreError::ReadOnly(_)) => Ok(configured.clone()),
        Err(error) => Err(error.into()),
    }
}

async fn start_engine(
    config: &Config,
    store: &Arc<dyn Store>,
    core: &Core,
    registries: Registries,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<(mpsc::Sender<crate::engine::Arrival>, mpsc::Sender<Question>)> {
    let saved = Saved::new(Arc::clone(store), &replica(&config.data_dir)?);
    core.registry.restore(saved.workloads().await?, config.registry.start_grace);
    let (sender, arrivals) = mpsc::channel(QUEUE);
    let (asking, questions) = mpsc::channel(QUEUE);
    let engine = Engine {
        follower: Follower::start(Arc::clone(store)).await?,
        registries,
        nodes: Arc::clone(&core.nodes),
        arrivals,
        addresses: saved.addresses().await?,
        saved: saved.clone(),
        settings: config.settings(),
        questions,
        published: Arc::clone(&core.published),
        stop: core.stop.clone(),
    };
    tasks.spawn(async move { engine.run().await.context("the store failed") });
    let registry = Arc::clone(&core.registry);
    let kept = saved.clone();
    let saving = async move { kept.follow(&registry).await };
    tasks.spawn(until_stopped(core.stop.clone(), saving));
    // Only etcd is shared by several.
    if config.deployment.etcd.is_some() {
        let (registry, grace) = (Arc::clone(&core.registry), config.registry.start_grace);
        let sharing = async move { saved.share(&registry, grace).await };
        tasks.spawn(until_stopped(core.stop.clone(), sharing));
    }
    Ok((sender, asking))
}

/// The name of this control plane among those of one store, kept in its data folder.
fn replica(data_dir: &Path) -> Result<String> {
    let path = data_dir.join(REPLICA);
    match std::fs::read_to_string(&path) {
        Ok(name) => Ok(name),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = uuid::Uuid::new_v4().to_string();
            std::fs::write(&path, &name)
                .with_context(|| format!("can't write {}", path.display()))?;
            Ok(name)
        }
        Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
    }
}

fn admin_state(
    config: &Config,
    store: Arc<dyn Store>,
    core: &Core,
    questions: mpsc::Sender<Question>,
) -> Result<AdminState> {
    let view =
        View { registry: Arc::clone(&core.registry), nodes: Arc::clone(&core.nodes), questions };
    let attempt = Attempt { settings: config.settings(), published: Arc::clone(&core.published) };
    let access = admin_key::access(&config.admin, &config.data_dir)
        .with_context(|| format!("the Admin API's key in {}", config.data_dir.display()))?;
    let state = AdminState::new(store, Arc::new(view), access).with_trial(Arc::new(attempt));
    Ok(if config.admin.cors { state } else { state.without_cors() })
}

async fn until_stopped(stop: CancellationToken, work: impl Future<Output = ()>) -> Result<()> {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
    Ok(())
}
