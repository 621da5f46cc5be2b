//! The administration interface: Envoy's paths, on the data plane's background runtime.
//!
//! It shows the state of the proxy and takes a few commands. Whoever reaches it
//! can stop the proxy, so it listens on loopback unless the bootstrap says
//! otherwise. What changes something is asked for with POST.

mod clusters;
mod commands;
mod listeners;
mod state;
mod stats;

pub use state::{AdminState, CertificateEntry, CertificateFacts, DrainRequest, Readiness};

use std::io;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::TcpListener;

/// The state that every handler sees.
type Shared = State<Arc<dyn AdminState>>;

/// Path, whether it takes POST only, and what it does.
const PATHS: &[(&str, bool, &str)] = &[
    ("/certs", false, "certificates in use"),
    ("/clusters", false, "clusters and their endpoints"),
    ("/config_dump", false, "the configuration as it was accepted, and what was rejected"),
    ("/drain_listeners", true, "drain listeners (?graceful, ?inboundonly)"),
    ("/healthcheck/fail", true, "fail readiness"),
    ("/healthcheck/ok", true, "take a failed readiness back"),
    ("/help", false, "this list"),
    ("/listeners", false, "listeners and their addresses"),
    ("/logging", true, "set the log level (?level=)"),
    ("/memory", false, "memory in use"),
    ("/quitquitquit", true, "end the process, after its connections are drained"),
    ("/ready", false, "whether the proxy takes traffic"),
    ("/reopen_logs", true, "open access log files anew"),
    ("/server_info", false, "version, state and command line"),
    ("/stats", false, "statistics (?usedonly, ?filter=, ?format=json|prometheus)"),
    ("/stats/prometheus", false, "statistics for Prometheus"),
];

/// The interface's routes.
pub fn router(state: Arc<dyn AdminState>) -> Router {
    Router::new()
        .route("/", get(help))
        .route("/help", get(help))
        .route("/ready", get(ready))
        .route("/server_info", get(server_info))
        .route("/config_dump", get(config_dump))
        .route("/certs", get(certs))
        .route("/memory", get(memory))
        .route("/clusters", get(clusters::show))
        .route("/listeners", get(listeners::show))
        .route("/stats", get(stats::show))
        .route("/stats/prometheus", get(stats::prometheus))
        .route("/drain_listeners", command(post(commands::drain_listeners)))
        .route("/quitquitquit", command(post(commands::quit)))
        .route("/healthcheck/fail", command(post(commands::fail)))
        .route("/healthcheck/ok", command(post(commands::recover)))
        .route("/logging", command(post(commands::logging)))
        .route("/reopen_logs", command(post(commands::reopen_logs)))
        .fallback(unknown)
        .with_state(state)
}

/// Serves the interface until the returned future is dropped.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, state: Arc<dyn AdminState>) -> io::Result<()> {
    axum::serve(listener, router(state)).await
}

/// As [`serve`], at a Unix socket.
///
/// # Errors
/// The listener failed.
pub async fn serve_unix(
    listener: tokio::net::UnixListener,
    state: Arc<dyn AdminState>,
) -> io::Result<()> {
    axum::serve(listener, router(state)).await
}

fn command(method: MethodRouter<Arc<dyn AdminState>>) -> MethodRouter<Arc<dyn AdminState>> {
    method.fallback(|| async {
        (StatusCode::METHOD_NOT_ALLOWED, "Method GET not allowed, POST required.")
    })
}

async fn unknown() -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("invalid path. {}", list()))
}

async fn help() -> String {
    list()
}

fn list() -> String {
    let lines = PATHS.iter().map(|(path, post, what)| {
        format!("  {path}{}: {what}\n", if *post { " (POST)" } else { "" })
    });
    std::iter::once("admin commands are:\n".to_owned()).chain(lines).collect()
}

async fn ready(State(state): Shared) -> (StatusCode, &'static str) {
    match state.readiness() {
        Readiness::Live => (StatusCode::OK, "LIVE\n"),
        Readiness::Initializing => (StatusCode::SERVICE_UNAVAILABLE, "PRE_INITIALIZING\n"),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n"),
    }
}

async fn server_info(State(state): Shared) -> Json<serde_json::Value> {
    let mut info = state.server_info();
    if let Some(info) = info.as_object_mut() {
        let name = match state.readiness() {
            Readiness::Live => "LIVE",
            Readiness::Initializing => "PRE_INITIALIZING",
            Readiness::Draining => "DRAINING",
        };
        info.insert("state".to_owned(), name.into());
    }
    Json(info)
}

#[derive(Deserialize)]
struct DumpQuery {
    /// Only sections with this field, e.g. `dynamic_listeners`; their items become `configs`.
    resource: Option<String>,
}

async fn config_dump(State(state): Shared, Query(query): Query<DumpQuery>) -> Response {
    let dump = state.config_dump();
    let Some(resource) = query.resource else { return Json(dump).into_response() };
    let sections = dump["configs"].as_array().cloned().unwrap_or_default();
    let found: Vec<_> = sections
        .iter()
        .filter_map(|section| section.get(&resource)?.as_array())
        .flatten()
        .cloned()
        .collect();
    if found.is_empty() && !sections.iter().any(|section| section.get(&resource).is_some()) {
        return (StatusCode::NOT_FOUND, format!("{resource} not found in config dump"))
            .into_response();
    }
    Json(serde_json::json!({ "configs": found })).into_response()
}

async fn certs(State(state): Shared) -> Json<serde_json::Value> {
    let entries: Vec<_> = state.certificates().iter().map(CertificateEntry::to_json).collect();
    Json(serde_json::json!({ "certificates": entries }))
}

/// Resident memory from the kernel: what the allocator holds and what it gave back are not told apart.
async fn memory() -> Response {
    let status = tokio::fs::read_to_string("/proc/self/status").await.unwrap_or_default();
    let bytes = |field: &str| {
        let line = status.lines().find(|line| line.starts_with(field))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some((kib * 1024).to_string())
    };
    let body = serde_json::json!({"allocated": bytes("VmRSS:"), "heap_size": bytes("VmData:")});
    ([(header::CACHE_CONTROL, "no-cache, max-age=0")], Json(body)).into_response()
}

#[cfg(test)]
mod tests;
