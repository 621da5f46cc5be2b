//! The whole program, wired: configuration, workers, and what runs in the background.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use weft_admin::AdminState;
use weft_cert_agent::{Agent, AgentConfig};
use weft_config::{
    AdsVariant, AgentCertificates, BootstrapConfig, CertificateAgentSettings, ClusterLoads, Engine,
    SharedEngine,
};
use weft_model::{ListenAddress, SnapshotPublisher};
use weft_net::{DrainPlan, ListenerEvent, Stopped};
use weft_spiffe::{SpiffeId, TrustDomain};
use weft_telemetry::Registry;
use weft_xds_client::{ClientConfig, ClientHandle, LoadReports, Variant};

use crate::arguments::{Arguments, Mode};
use crate::control_plane::ClusterTransport;
use crate::limits::raise_open_files;
use crate::logging::Logging;
use crate::pod;
use crate::readiness::Health;
use crate::secrets::SecretStreams;
use crate::shutdown::{Event, Events};
use crate::sockets::Sockets;
use crate::state::State;
use crate::tidy::{self, Tidy};
use crate::worker::{WorkerOptions, Workers};

/// How often the engine is asked whether something has waited for too long.
const ENGINE_TICK: Duration = Duration::from_millis(250);
/// Events and commands that may wait.
const QUEUE: usize = 256;
/// Threads of the background runtime.
const BACKGROUND_THREADS: usize = 1;

/// Runs the proxy until it is told to end.
///
/// # Errors
/// The bootstrap is wrong, or what it asks for can't be had.
pub(crate) fn run(arguments: Arguments, logging: Logging) -> Result<()> {
    let started = Instant::now();
    weft_telemetry::set_flush_interval(Duration::from_millis(arguments.file_flush_interval_msec));
    if arguments.mode == Mode::Wait {
        return pod::wait();
    }
    let (config_path, pod) = match (&arguments.config_path, arguments.pod) {
        (Some(path), _) => (path.clone(), None),
        (None, true) => {
            let pod = pod::Pod::prepare(arguments.state_dir.as_deref())?;
            (pod.bootstrap_file.clone(), Some(pod))
        }
        (None, false) => bail!("--config-path is missing"),
    };
    let mut bootstrap = BootstrapConfig::read(&config_path)?;
    overrule(&mut bootstrap, &arguments);
    let registry = Registry::new();
    let publisher = SnapshotPublisher::new();
    let snapshot = publisher.watch();
    let engine = Engine::new(bootstrap, registry.clone(), publisher, started)?;
    weft_config::forget_descriptors();
    tidy::release();
    if arguments.mode == Mode::Validate {
        tracing::info!(file = %config_path.display(), "the bootstrap file is valid");
        return Ok(());
    }
    raise_open_files();
    let runtime = Builder::new_multi_thread()
        .worker_threads(BACKGROUND_THREADS)
        .thread_name("background")
        .enable_all()
        .build()
        .context("the background runtime")?;
    let (commands, received) = mpsc::channel(QUEUE);
    let state = Arc::new(State {
        engine: SharedEngine::new(engine),
        snapshot,
        registry,
        health: Arc::new(Health::default()),
        sockets: Arc::new(Sockets::default()),
        logging,
        commands,
        started,
        workers: arguments.workers(),
    });
    let (drain_time, state_dir) = (arguments.drain_time(), arguments.state_dir);
    let proxy = Proxy { state, drain_time, state_dir, pod };
    let result = runtime.block_on(proxy.serve(received));
    weft_telemetry::flush_logs();
    // Blocked look-ups and file reads must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

fn overrule(bootstrap: &mut BootstrapConfig, arguments: &Arguments) {
    if let Some(id) = &arguments.service_node {
        bootstrap.node.id.clone_from(id);
    }
    if let Some(cluster) = &arguments.service_cluster {
        bootstrap.node.cluster.clone_from(cluster);
    }
    if let Some(seconds) = arguments.on_demand_idle_s {
        bootstrap.on_demand_idle = Duration::from_secs(seconds);
    }
}

struct Proxy {
    state: Arc<State>,
    drain_time: Duration,
    state_dir: Option<PathBuf>,
    /// When it runs in one.
    pod: Option<pod::Pod>,
}

/// What runs in the background; ends when dropped.
struct Background {
    tasks: JoinSet<()>,
    _agent: Option<Agent>,
    _resolver: weft_upstream::ResolverHandle,
    _health: weft_upstream::HealthHandle,
    _loads: Option<LoadReports>,
    client: Option<ClientHandle>,
}

impl Proxy {
    async fn serve(self, commands: mpsc::Receiver<Event>) -> Result<()> {
        let mut events = Events::new(commands).context("signal handlers")?;
        let mut background = self.background()?;
        self.administration(&mut background.tasks).await?;
        if let Some(pod) = &self.pod {
            pod.serve(&self.state, &mut background.tasks)?;
        }
        let (sender, mut sockets) = mpsc::channel(QUEUE);
        let workers = Workers::start(&WorkerOptions {
            snapshot: self.state.snapshot.clone(),
            workers: self.state.workers,
            drain_plan: plan(self.drain_time),
            events: sender,
        })?;
        tracing::info!(
            workers = self.state.workers,
            version = env!("CARGO_PKG_VERSION"),
            "started"
        );
        let result = loop {
            // Sockets first: a failure at the start is worth more than a signal.
            tokio::select! {
                biased;
                Some(event) = sockets.recv() => self.socket(event)?,
                event = events.next() => match event {
                    Event::End(why) => break self.end(&workers, &mut events, why).await,
                    Event::Drain(request) => {
                        let which = if request.inbound_only { Stopped::Inbound } else { Stopped::All };
                        self.drain_listeners(&workers, which, request.graceful).await;
                    }
                    Event::Reopen => reopen(),
                },
            }
        };
        if let Some(client) = background.client.take() {
            client.shutdown().await;
        }
        drop(background);
        tokio::task::spawn_blocking(|| workers.join()).await.context("ending the workers")?;
        result
    }

    /// A socket of the bootstrap's that can't listen ends the start, as in Envoy; one of the control
    /// plane's is tried again.
    fn socket(&self, event: ListenerEvent) -> Result<()> {
        let Some((listener, address, reason)) = self.state.sockets.note(event) else {
            return Ok(());
        };
        let engine = self.state.engine.lock();
        let fixed = engine.bootstrap().resources.iter().find(|resource| resource.name == listener);
        match fixed {
            Some(resource) => bail!(
                "{}: {}: can't listen at {address}: {reason}",
                engine.bootstrap().file.display(),
                resource.path
            ),
            None => Ok(()),
        }
    }

    fn background(&self) -> Result<Background> {
        let bootstrap = self.state.engine.lock().bootstrap().clone();
        let settings = bootstrap.agent.clone();
        let folder = self.state_dir.clone();
        let folder =
            folder.or_else(|| settings.as_ref().and_then(|settings| settings.state_dir.clone()));
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("the state folder {}", folder.display()))?;
        }
        let mut tasks = JoinSet::new();
        let agent =
            settings.as_ref().map(|settings| agent(settings, folder.as_deref())).transpose()?;
        if let Some(agent) = &agent {
            certificates(agent, &self.state.engine, &mut tasks);
        }
        let resolver = weft_upstream::spawn_resolver(self.state.snapshot.clone());
        let health = weft_upstream::spawn_health(self.state.snapshot.clone());
        let token = settings.map(|settings| settings.token_file);
        let loads = self.loads(&bootstrap, token.clone());
        let client = self.client(&bootstrap, token, folder.as_deref());
        let engine = self.state.engine.clone();
        let secrets = SecretStreams::new(engine.clone(), self.state.snapshot.clone());
        tasks.spawn(keep_going(engine.clone(), secrets));
        if let Some(client) = client.clone() {
            tasks.spawn(fetch_on_demand(engine, client));
        }
        Ok(Background {
            tasks,
            _agent: agent,
            _resolver: resolver,
            _health: health,
            _loads: loads,
            client,
        })
    }

    /// Tells a management server of the load, where one is configured.
    fn loads(&self, bootstrap: &BootstrapConfig, token: Option<PathBuf>) -> Option<LoadReports> {
        let settings = bootstrap.load_stats.clone()?;
        let config = ClientConfig::new(bootstrap.node.clone(), Variant::Sotw);
        let snapshot = self.state.snapshot.clone();
        let transport = ClusterTransport::new(snapshot.clone(), settings, token);
        let source = Box::new(ClusterLoads::new(snapshot));
        Some(weft_xds_client::report_loads(config, Arc::new(transport), source))
    }

    fn client(
        &self,
        bootstrap: &BootstrapConfig,
        token: Option<PathBuf>,
        folder: Option<&Path>,
    ) -> Option<ClientHandle> {
        let ads = bootstrap.ads.clone()?;
        let variant = match ads.variant {
            AdsVariant::Delta => Variant::Delta,
            AdsVariant::Sotw => Variant::Sotw,
        };
        let mut config = ClientConfig::new(bootstrap.node.clone(), variant);
        config.cache = folder.map(|folder| folder.join("configuration.cache"));
        let transport = ClusterTransport::new(self.state.snapshot.clone(), ads, token);
        let handler = Box::new(self.state.engine.clone());
        Some(weft_xds_client::spawn(config, Arc::new(transport), handler))
    }

    async fn administration(&self, tasks: &mut JoinSet<()>) -> Result<()> {
        let admin = self.state.engine.lock().bootstrap().admin.clone();
        let Some(admin) = admin else { return Ok(()) };
        let state: Arc<dyn AdminState> = self.state.clone();
        match admin.address {
            ListenAddress::Socket(address) => {
                let listener = tokio::net::TcpListener::bind(address).await;
                let listener = listener
                    .with_context(|| format!("admin.address: can't listen at {address}"))?;
                tracing::info!(address = %listener.local_addr()?, "administration");
                tasks.spawn(async move { ended(weft_admin::serve(listener, state).await) });
            }
            ListenAddress::Pipe(path) => {
                let listener = tokio::net::UnixListener::bind(&path);
                let listener = listener.with_context(|| {
                    format!("admin.address: can't listen at {}", path.display())
                })?;
                tasks.spawn(async move { ended(weft_admin::serve_unix(listener, state).await) });
            }
        }
        Ok(())
    }

    async fn drain_listeners(&self, workers: &Workers, which: Stopped, graceful: bool) {
        tracing::info!(?which, graceful, "draining listeners");
        if which == Stopped::All {
            self.state.health.begin_draining();
        }
        workers.stop_accepting(which).await;
    }

    /// Fails readiness, stops accepting, lets connections end; a second signal ends at once.
    async fn end(&self, workers: &Workers, events: &mut Events, why: &str) -> Result<()> {
        tracing::info!(why, seconds = self.drain_time.as_secs(), "draining");
        self.state.health.begin_draining();
        let drained = async {
            workers.stop_accepting(Stopped::All).await;
            workers.drain(plan(self.drain_time)).await;
        };
        let again = async {
            loop {
                if let Event::End(why) = events.next().await {
                    return why;
                }
            }
        };
        tokio::select! {
            () = drained => tracing::info!("drained"),
            why = again => tracing::warn!(why, "ending at once"),
        }
        Ok(())
    }
}

/// Connections announce their end for a quarter of the time, then idle ones are closed; busy ones
/// have until its end.
fn plan(time: Duration) -> DrainPlan {
    DrainPlan { announce: time / 4, close: time - time / 4 }
}

fn agent(settings: &CertificateAgentSettings, folder: Option<&Path>) -> Result<Agent> {
    let domain =
        TrustDomain::new(&settings.trust_domain).context("bootstrap_extensions: trust_domain")?;
    let identity = SpiffeId::workload(&domain, &settings.namespace, &settings.service_account)
        .context("bootstrap_extensions: namespace and service_account")?;
    let host =
        settings.ca_address.rsplit_once(':').map_or(settings.ca_address.as_str(), |(host, _)| host);
    let server_name = settings.server_name.as_deref().unwrap_or(host);
    let mut config =
        AgentConfig::new(&settings.ca_address, server_name, &settings.root_cert_file, identity);
    config.token = Some(settings.token_file.clone());
    config.cache = folder.map(|folder| folder.join("certificates.cache"));
    if let Some(ttl) = settings.ttl {
        config.ttl = ttl;
    }
    Ok(Agent::spawn(config))
}

/// Hands the agent's certificates to the engine as they come, and says in the log why none come.
fn certificates(agent: &Agent, engine: &SharedEngine, tasks: &mut JoinSet<()>) {
    let mut certificates = agent.certificates();
    let engine = engine.clone();
    tasks.spawn(async move {
        loop {
            let current = certificates.borrow_and_update().clone();
            if let Some(current) = current {
                let given = AgentCertificates {
                    chain: current.credential().clone(),
                    roots: current.roots().clone(),
                };
                match engine.lock().set_agent_certificates(given, Instant::now()) {
                    Ok(()) => tracing::info!(identity = ?current.spiffe_id(), "certificate"),
                    Err(error) => tracing::error!(%error, "the agent's certificate is of no use"),
                }
            }
            if certificates.changed().await.is_err() {
                return;
            }
        }
    });
    let mut failures = agent.failure();
    tasks.spawn(async move {
        while failures.changed().await.is_ok() {
            let failure = failures.borrow_and_update().clone();
            if let Some(failure) = failure {
                tracing::warn!(%failure, "no new certificate");
            }
        }
    });
}

/// Has what requests ask for subscribed to.
async fn fetch_on_demand(engine: SharedEngine, client: ClientHandle) {
    let demand = engine.lock().demand();
    loop {
        demand.asked().await;
        engine.lock().take_demands(Instant::now());
        client.refresh();
    }
}

/// Lets the engine go on without what was waited for too long, has changed files read and servers of
/// secrets asked, and gives memory back when it is
/// quiet.
async fn keep_going(engine: SharedEngine, mut secrets: SecretStreams) {
    let mut clock = tokio::time::interval(ENGINE_TICK);
    let mut tidy = Tidy::new();
    loop {
        let now = clock.tick().await.into_std();
        let received = {
            let mut engine = engine.lock();
            if engine.next_deadline().is_some_and(|deadline| deadline <= now) {
                engine.tick(now);
            }
            engine.reload_files(now);
            engine.received()
        };
        secrets.follow();
        if tidy.is_due(received) {
            tidy::release();
        }
    }
}

fn reopen() {
    tokio::task::spawn_blocking(|| match weft_telemetry::reopen_logs() {
        Ok(()) => tracing::info!("log files opened anew"),
        Err(error) => tracing::error!(%error, "a log file can't be opened anew"),
    });
}

fn ended(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "the administration interface ended");
    }
}
