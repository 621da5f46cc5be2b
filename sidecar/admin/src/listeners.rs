//! `/listeners`

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_model::ListenAddress;

use crate::Shared;

#[derive(Deserialize)]
pub(crate) struct Parameters {
    format: Option<String>,
}

pub(crate) async fn show(State(state): Shared, Query(parameters): Query<Parameters>) -> Response {
    let snapshot = state.snapshot();
    let mut listeners: Vec<_> = snapshot.listeners.values().collect();
    listeners.sort_by(|a, b| a.name.cmp(&b.name));
    if parameters.format.as_deref() == Some("json") {
        let statuses: Vec<_> = listeners
            .iter()
            .map(|listener| {
                let mut addresses = listener.addresses.iter().map(address_json);
                let first = addresses.next();
                json!({"name": &*listener.name, "local_address": first,
                       "additional_local_addresses": addresses.collect::<Vec<_>>()})
            })
            .collect();
        return Json(json!({ "listener_statuses": statuses })).into_response();
    }
    let lines = listeners.iter().flat_map(|listener| {
        listener.addresses.iter().map(|address| format!("{}::{}\n", listener.name, text(address)))
    });
    lines.collect::<String>().into_response()
}

fn text(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Socket(address) => address.to_string(),
        ListenAddress::Pipe(path) => path.display().to_string(),
    }
}

fn address_json(address: &ListenAddress) -> Value {
    match address {
        ListenAddress::Socket(address) => {
            json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
        }
        ListenAddress::Pipe(path) => json!({"pipe": {"path": path}}),
    }
}
