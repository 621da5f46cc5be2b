//! What the kubelet and Prometheus ask: readiness, probes, metrics, and a few commands.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::environment::PodEnvironment;
use crate::probe::{Probe, Prober};

/// Where readiness is told, as in Istio.
const READINESS_PORT: u16 = 15021;
/// Where the proxy's own metrics are, as in Istio.
const METRICS_PORT: u16 = 15090;
/// How long the application's metrics may take.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// The proxy, as the pod sees it.
pub trait ProxyState: Send + Sync + 'static {
    /// Whether traffic is taken.
    fn is_ready(&self) -> bool;
    /// All statistics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// Stops taking inbound connections; those that are there may end.
    fn drain(&self);
    /// Ends the process after a drain.
    fn quit(&self);
}

/// Where the application has metrics of its own, as its annotations said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Scrape {
    port: String,
    path: String,
}

/// The servers of a pod's proxy, bound.
#[derive(Debug)]
pub struct StatusServers {
    readiness: TcpListener,
    metrics: TcpListener,
    status: Option<TcpListener>,
}

struct Shared {
    proxy: Arc<dyn ProxyState>,
    prober: Prober,
    probes: BTreeMap<String, Probe>,
    scrape: Option<Scrape>,
}

impl StatusServers {
    /// Binds 15021, 15090 and the status port on all addresses.
    ///
    /// # Errors
    /// The port that is taken.
    pub fn bind(environment: &PodEnvironment) -> io::Result<Self> {
        let status = environment.status_port;
        Ok(Self {
            readiness: listen(READINESS_PORT)?,
            metrics: listen(METRICS_PORT)?,
            status: (status != 0).then(|| listen(status)).transpose()?,
        })
    }

    /// Serves for as long as `tasks` is kept.
    pub fn serve(
        self,
        environment: &PodEnvironment,
        proxy: Arc<dyn ProxyState>,
        tasks: &mut JoinSet<()>,
    ) {
        let first = environment.bootstrap.addresses.first().copied();
        let shared = Arc::new(Shared {
            proxy,
            prober: Prober::new(first.unwrap_or(Ipv4Addr::LOCALHOST.into())),
            probes: environment.probes.clone(),
            scrape: environment.scrape.clone(),
        });
        let readiness = Router::new().route("/healthz/ready", get(ready));
        let metrics = Router::new().route("/stats/prometheus", get(own_metrics));
        let mut start = |listener, routes: Router<Arc<Shared>>| {
            let routes = routes.with_state(Arc::clone(&shared));
            tasks.spawn(async move {
                if let Err(error) = axum::serve(listener, routes).await {
                    tracing::error!(%error, "a status server failed");
                }
            });
        };
        start(self.readiness, readiness);
        start(self.metrics, metrics);
        if let Some(status) = self.status {
            start(status, status_routes());
        }
    }
}

fn status_routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/healthz/ready", get(ready))
        .route("/stats/prometheus", get(all_metrics))
        .route("/metrics", get(all_metrics))
        .route("/app-health/{container}/{probe}", get(probe))
        .route("/app-lifecycle/{container}/{probe}", get(probe))
        .route("/drain", post(drain))
        .route("/quitquitquit", post(quit))
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    match shared.proxy.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

async fn probe(
    State(shared): State<Arc<Shared>>,
    Path(_): Path<(String, String)>,
    uri: axum::http::Uri,
    headers: HeaderMap,
) -> Response {
    let Some(probe) = shared.probes.get(uri.path()) else {
        return (StatusCode::NOT_FOUND, "the injector knows of no such probe\n").into_response();
    };
    match shared.prober.probe(probe, &headers).await {
        Ok(answer) => answer.into_response(),
        Err(error) => {
            tracing::debug!(path = uri.path(), %error, "probe failed");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
        }
    }
}

async fn own_metrics(State(shared): State<Arc<Shared>>) -> Response {
    exposition(shared.proxy.metrics())
}

async fn all_metrics(State(shared): State<Arc<Shared>>) -> Response {
    let mut text = shared.proxy.metrics();
    if let Some(scrape) = &shared.scrape {
        match scraped(&shared.prober, scrape).await {
            Ok(own) => {
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(&own);
            }
            Err(reason) => {
                tracing::warn!(port = scrape.port, %reason, "no metrics from the application");
            }
        }
    }
    exposition(text)
}

async fn scraped(prober: &Prober, scrape: &Scrape) -> Result<String, String> {
    let port = scrape.port.parse().map_err(|_| "its port is no number")?;
    let fetched = tokio::time::timeout(SCRAPE_TIMEOUT, prober.fetch(port, &scrape.path)).await;
    let (status, body) =
        fetched.map_err(|_| "it took too long")?.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("it answers {status}"));
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn drain(State(shared): State<Arc<Shared>>) -> &'static str {
    shared.proxy.drain();
    "OK\n"
}

async fn quit(State(shared): State<Arc<Shared>>) -> &'static str {
    shared.proxy.quit();
    "OK\n"
}

fn exposition(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// On all addresses of both families, or of IPv4 where there is no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let bound = bind(v6).or_else(|_| bind(v4)).map_err(|error| {
        io::Error::new(error.kind(), format!("can't listen on port {port}: {error}"))
    })?;
    TcpListener::from_std(bound.into())
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
