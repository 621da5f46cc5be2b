//! `/clusters`

use std::fmt::Write as _;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_model::{ClusterHandle, Endpoint, EndpointAddress, Health, Thresholds};

use crate::Shared;

#[derive(Deserialize)]
pub(crate) struct Parameters {
    format: Option<String>,
}

pub(crate) async fn show(State(state): Shared, Query(parameters): Query<Parameters>) -> Response {
    let snapshot = state.snapshot();
    let mut clusters: Vec<_> = snapshot.clusters.values().collect();
    clusters.sort_by(|a, b| a.name().cmp(b.name()));
    if parameters.format.as_deref() == Some("json") {
        let statuses: Vec<_> = clusters.iter().map(|cluster| cluster_json(cluster)).collect();
        return Json(json!({ "cluster_statuses": statuses })).into_response();
    }
    let mut out = String::new();
    for cluster in clusters {
        cluster_text(cluster, &mut out);
    }
    out.into_response()
}

fn cluster_text(cluster: &ClusterHandle, out: &mut String) {
    let name = cluster.name();
    let config = cluster.config();
    // Writing to a string can't fail; so below.
    let _ = writeln!(out, "{name}::observability_name::{}", config.stat_name);
    for (priority, limits) in [("default", config.breakers.default), ("high", config.breakers.high)]
    {
        for (limit, value) in limits_of(limits) {
            let _ = writeln!(out, "{name}::{priority}_priority::{limit}::{value}");
        }
    }
    for (priority, level) in cluster.endpoints().priorities.iter().enumerate() {
        for endpoint in &level.endpoints {
            for (key, value) in endpoint_facts(endpoint, priority) {
                let _ =
                    writeln!(out, "{name}::{}::{key}::{value}", address_text(&endpoint.address));
            }
        }
    }
}

fn limits_of(limits: Thresholds) -> [(&'static str, u32); 4] {
    [
        ("max_connections", limits.connections),
        ("max_pending_requests", limits.pending),
        ("max_requests", limits.requests),
        ("max_retries", limits.retries),
    ]
}

fn endpoint_facts(endpoint: &Endpoint, priority: usize) -> [(&'static str, String); 7] {
    [
        ("hostname", endpoint.hostname.as_deref().unwrap_or_default().to_owned()),
        ("health_flags", health_flags(endpoint.health).to_owned()),
        ("weight", endpoint.weight.to_string()),
        ("region", endpoint.locality.region.clone()),
        ("zone", endpoint.locality.zone.clone()),
        ("sub_zone", endpoint.locality.sub_zone.clone()),
        ("priority", priority.to_string()),
    ]
}

fn health_flags(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Degraded => "/degraded_eds_health",
        Health::Unhealthy => "/failed_eds_health",
        Health::Draining => "/eds_status_draining",
    }
}

fn address_text(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Socket(address) => address.to_string(),
        EndpointAddress::Pipe(path) => path.display().to_string(),
    }
}

fn cluster_json(cluster: &ClusterHandle) -> Value {
    let config = cluster.config();
    let endpoints = cluster.endpoints();
    let hosts: Vec<_> = endpoints
        .priorities
        .iter()
        .enumerate()
        .flat_map(|(priority, level)| {
            level.endpoints.iter().map(move |e| endpoint_json(e, priority))
        })
        .collect();
    let thresholds = |priority: &str, limits: Thresholds| {
        let mut value = json!({ "priority": priority });
        for (limit, number) in limits_of(limits) {
            value[limit] = number.into();
        }
        value
    };
    json!({
        "name": &**cluster.name(),
        "observability_name": &*config.stat_name,
        "host_statuses": hosts,
        "circuit_breakers": {"thresholds": [
            thresholds("DEFAULT", config.breakers.default),
            thresholds("HIGH", config.breakers.high),
        ]},
    })
}

fn endpoint_json(endpoint: &Endpoint, priority: usize) -> Value {
    let address = match &endpoint.address {
        EndpointAddress::Socket(address) => {
            json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
        }
        EndpointAddress::Pipe(path) => json!({"pipe": {"path": path}}),
    };
    let health = match endpoint.health {
        Health::Healthy => "HEALTHY",
        Health::Degraded => "DEGRADED",
        Health::Unhealthy => "UNHEALTHY",
        Health::Draining => "DRAINING",
    };
    json!({
        "address": address,
        "hostname": endpoint.hostname.as_deref().unwrap_or_default(),
        "health_status": {"eds_health_status": health},
        "weight": endpoint.weight,
        "priority": priority,
        "locality": {"region": endpoint.locality.region, "zone": endpoint.locality.zone,
                     "sub_zone": endpoint.locality.sub_zone},
    })
}
