//! `/stats` and `/stats/prometheus`.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use regex::Regex;
use serde::Deserialize;
use weft_telemetry::{StatsQuery, prometheus_text, stats_json, stats_text};

use crate::Shared;

#[derive(Deserialize)]
pub(crate) struct Parameters {
    usedonly: Option<String>,
    filter: Option<String>,
    format: Option<String>,
}

impl Parameters {
    fn query(&self) -> Result<StatsQuery, Box<Response>> {
        let filter = self.filter.as_deref().map(Regex::new).transpose().map_err(|error| {
            let text = format!("Invalid re2 regex: filter: {error}\n");
            Box::new((StatusCode::BAD_REQUEST, text).into_response())
        })?;
        Ok(StatsQuery { used_only: self.usedonly.is_some(), filter })
    }
}

pub(crate) async fn show(State(state): Shared, Query(parameters): Query<Parameters>) -> Response {
    let query = match parameters.query() {
        Ok(query) => query,
        Err(refusal) => return *refusal,
    };
    match parameters.format.as_deref() {
        None | Some("text") => stats_text(&state.metrics(), &query).into_response(),
        Some("json") => Json(stats_json(&state.metrics(), &query)).into_response(),
        Some("prometheus") => exposition(prometheus_text(&state.metrics(), &query)),
        Some(other) => {
            let text = format!("unknown format {other:?}: use text, json or prometheus\n");
            (StatusCode::BAD_REQUEST, text).into_response()
        }
    }
}

pub(crate) async fn prometheus(
    State(state): Shared,
    Query(parameters): Query<Parameters>,
) -> Response {
    match parameters.query() {
        Ok(query) => exposition(prometheus_text(&state.metrics(), &query)),
        Err(refusal) => *refusal,
    }
}

fn exposition(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
