//! What changes something.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use crate::{DrainRequest, Shared};

#[derive(Deserialize)]
pub(crate) struct DrainParameters {
    graceful: Option<String>,
    inboundonly: Option<String>,
}

pub(crate) async fn drain_listeners(
    State(state): Shared,
    Query(parameters): Query<DrainParameters>,
) -> &'static str {
    state.drain(DrainRequest {
        graceful: parameters.graceful.is_some(),
        inbound_only: parameters.inboundonly.is_some(),
    });
    "OK\n"
}

pub(crate) async fn quit(State(state): Shared) -> &'static str {
    state.quit();
    "OK\n"
}

pub(crate) async fn fail(State(state): Shared) -> &'static str {
    state.set_healthy(false);
    "OK\n"
}

pub(crate) async fn recover(State(state): Shared) -> &'static str {
    state.set_healthy(true);
    "OK\n"
}

#[derive(Deserialize)]
pub(crate) struct LoggingParameters {
    level: Option<String>,
}

pub(crate) async fn logging(
    State(state): Shared,
    Query(parameters): Query<LoggingParameters>,
) -> (StatusCode, String) {
    let Some(level) = parameters.level else {
        return (
            StatusCode::BAD_REQUEST,
            "usage: /logging?level=<trace|debug|info|warn|error>\n".to_owned(),
        );
    };
    match state.set_log_level(&level) {
        Ok(()) => (StatusCode::OK, format!("level: {level}\n")),
        Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")),
    }
}

pub(crate) async fn reopen_logs() -> (StatusCode, String) {
    let done = tokio::task::spawn_blocking(weft_telemetry::reopen_logs).await;
    match done {
        Ok(Ok(())) => (StatusCode::OK, "OK\n".to_owned()),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
