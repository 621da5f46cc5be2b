//! The servers: admission over TLS, health without.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use weft_ca::{TlsConnection, TlsIncoming};
use weft_inject::Settings;
use weft_tls::ServerTls;

use crate::review::{Answer, answer};

/// Largest review; etcd takes objects of up to 1.5 MiB, and an update would have two.
const BODY_LIMIT: usize = 8 << 20;

type Shared = watch::Receiver<Arc<Settings>>;

/// Serves admission reviews until `end` is over: `POST /inject`, with `cluster` and `net` from
/// further parts of the path as in `/inject/cluster/one/net/east`.
///
/// # Errors
/// The listener failed.
pub async fn webhook(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerTls>>,
    settings: Shared,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/inject", post(whole_mesh))
        .route("/inject/{*pairs}", post(part))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(settings);
    let incoming = Incoming(TlsIncoming::new(listener, tls));
    axum::serve(incoming, routes).with_graceful_shutdown(end).await
}

/// Serves `/healthz` and `/readyz` until `end` is over; ready as soon as `ready` says so.
///
/// # Errors
/// The listener failed.
pub async fn health(
    listener: TcpListener,
    ready: watch::Receiver<bool>,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let readiness = |State(ready): State<watch::Receiver<bool>>| async move {
        match *ready.borrow() {
            true => (StatusCode::OK, "ready\n"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "no certificate yet\n"),
        }
    };
    let routes = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness))
        .with_state(ready);
    axum::serve(listener, routes).with_graceful_shutdown(end).await
}

async fn whole_mesh(State(settings): State<Shared>, body: Bytes) -> Response {
    let settings = Arc::clone(&settings.borrow());
    respond(answer(&body, &settings))
}

async fn part(State(settings): State<Shared>, Path(pairs): Path<String>, body: Bytes) -> Response {
    let mut settings = Settings::clone(&settings.borrow());
    let mut parts = pairs.split('/');
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        match key {
            "cluster" => value.clone_into(&mut settings.cluster),
            "net" => settings.network = Some(value.to_owned()),
            _ => {}
        }
    }
    respond(answer(&body, &settings))
}

fn respond(answer: Answer) -> Response {
    match answer {
        Answer::Review(review) => Json(review).into_response(),
        Answer::Malformed(status) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (StatusCode::BAD_REQUEST, kind, status.to_string()).into_response()
        }
    }
}

/// TLS connections for axum.
struct Incoming(TlsIncoming);

impl Listener for Incoming {
    type Io = TlsConnection;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.next().await {
                Some(Ok(connection)) => return (connection, ()),
                Some(Err(error)) => tracing::warn!(%error, "connection failed"),
                // The accepting task ended; nothing will come any more.
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(())
    }
}
