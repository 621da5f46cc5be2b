//! The admission webhook program: arguments, logs, signals.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use weft_injector::{CertificateSource, follow, health, server_tls, webhook};

/// Weft's injector: adds the sidecar to pods as they are created
#[derive(Debug, Parser)]
#[command(name = "weft-injector", version)]
struct Arguments {
    /// File with the mesh's settings for pods (YAML), followed; the defaults if absent
    #[arg(long)]
    settings: Option<PathBuf>,
    /// Where reviews are taken, over TLS
    #[arg(long, default_value = "0.0.0.0:15017")]
    listen: SocketAddr,
    /// Where /healthz and /readyz are, without TLS
    #[arg(long, default_value = "0.0.0.0:8080")]
    health: SocketAddr,
    /// The control plane, which certifies the webhook
    #[arg(long, default_value = "weft-control-plane.weft-system.svc:15012")]
    control_plane: String,
    /// The name in the control plane's certificate; its host if absent
    #[arg(long)]
    server_name: Option<String>,
    /// The mesh's trust domain
    #[arg(long, default_value = "cluster.local")]
    trust_domain: String,
    /// The webhook's own namespace
    #[arg(long, env = "POD_NAMESPACE", default_value = "weft-system")]
    namespace: String,
    /// Its service account
    #[arg(long, env = "SERVICE_ACCOUNT", default_value = "weft-injector")]
    service_account: String,
    /// File with the roots that vouch for the control plane
    #[arg(long, default_value = "/var/run/secrets/weft/root/root-cert.pem")]
    root_cert: PathBuf,
    /// File with the service account's token
    #[arg(long, default_value = "/var/run/secrets/weft/token/weft-token")]
    token: PathBuf,
    /// File with a certificate to use instead of one from the control plane
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File with its key
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or by module
    #[arg(short = 'l', long, default_value = "info")]
    log_level: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let run = || -> Result<()> {
        let filter = EnvFilter::try_new(&arguments.log_level)
            .with_context(|| format!("--log-level {:?}", arguments.log_level))?;
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(serve(&arguments))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody can be told that nobody can be told.
            let _ = writeln!(std::io::stderr(), "weft-injector: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &Arguments) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (settings, following) = follow(arguments.settings.clone())?;
    let bind = |what, address| async move {
        let listener = TcpListener::bind(address).await;
        listener.with_context(|| format!("{what} can't listen at {address}"))
    };
    let probes = bind("health", arguments.health).await?;
    let reviews = bind("the webhook", arguments.listen).await?;
    let address = reviews.local_addr()?;
    let stop = CancellationToken::new();
    let (ready, readiness) = watch::channel(false);
    let source = source(arguments);
    let serving = async {
        let (tls, _agent) = server_tls(&source).await?;
        ready.send_replace(true);
        tracing::info!(%address, "serving");
        webhook(reviews, tls, settings, stop.clone().cancelled_owned()).await?;
        anyhow::Ok(())
    };
    let health = health(probes, readiness, stop.clone().cancelled_owned());
    let signals = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending");
        stop.cancel();
    };
    // Reviews under way are answered before the end.
    let served = async {
        tokio::select! {
            served = serving => served,
            () = waiting_for_certificate_when(&stop, &ready) => Ok(()),
        }
    };
    tokio::select! {
        (served, ()) = async { tokio::join!(served, signals) } => served,
        healthy = health => healthy.context("the health server failed"),
        () = following => std::future::pending().await,
    }
}

/// A webhook that still waits for its certificate ends at once.
async fn waiting_for_certificate_when(stop: &CancellationToken, ready: &watch::Sender<bool>) {
    stop.cancelled().await;
    if *ready.borrow() {
        std::future::pending::<()>().await;
    }
}

fn source(arguments: &Arguments) -> CertificateSource {
    if let (Some(chain), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) {
        let roots = match arguments.root_cert.exists() {
            true => arguments.root_cert.clone(),
            false => chain.clone(),
        };
        return CertificateSource::Files { chain: chain.clone(), key: key.clone(), roots };
    }
    let host = || {
        let address = &arguments.control_plane;
        address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).to_owned()
    };
    CertificateSource::Authority {
        address: arguments.control_plane.clone(),
        server_name: arguments.server_name.clone().unwrap_or_else(host),
        roots: arguments.root_cert.clone(),
        token: arguments.token.clone(),
        trust_domain: arguments.trust_domain.clone(),
        namespace: arguments.namespace.clone(),
        service_account: arguments.service_account.clone(),
    }
}
