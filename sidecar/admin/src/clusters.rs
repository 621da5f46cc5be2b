//! `/clusters`

use std::fmt::Write as _;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_model::{
    ClusterHandle, Endpoint, EndpointAddress, Health, HealthFlags, HostTotals, Thresholds,
};

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
            let host = address_text(&endpoint.address);
            for (key, value) in endpoint_facts(cluster, endpoint, priority) {
                let _ = writeln!(out, "{name}::{host}::{key}::{value}");
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

type Statistic = (&'static str, u64);

/// What was found out about a host.
struct Known {
    flags: HealthFlags,
    totals: HostTotals,
    rates: [f64; 2],
}

impl Known {
    fn of(cluster: &ClusterHandle, endpoint: &Endpoint) -> Self {
        match cluster.hosts().find(&endpoint.address) {
            Some(state) => {
                Self { flags: state.flags(), totals: state.totals(), rates: state.success_rates() }
            }
            None => Self {
                flags: HealthFlags::default(),
                totals: HostTotals::default(),
                rates: [-1.0, -1.0],
            },
        }
    }

    /// The counters and then the gauges, each with Envoy's name.
    fn statistics(&self) -> ([Statistic; 6], [Statistic; 2]) {
        let totals = &self.totals;
        let counters = [
            ("cx_connect_fail", totals.cx_connect_fail),
            ("cx_total", totals.cx_total),
            ("rq_error", totals.rq_error),
            ("rq_success", totals.rq_success),
            ("rq_timeout", totals.rq_timeout),
            ("rq_total", totals.rq_total),
        ];
        (counters, [("cx_active", totals.cx_active), ("rq_active", totals.rq_active)])
    }
}

fn endpoint_facts(
    cluster: &ClusterHandle,
    endpoint: &Endpoint,
    priority: usize,
) -> Vec<(&'static str, String)> {
    let known = Known::of(cluster, endpoint);
    let (counters, gauges) = known.statistics();
    let mut facts: Vec<_> =
        counters.iter().chain(&gauges).map(|(name, value)| (*name, value.to_string())).collect();
    facts.sort_unstable();
    let [external, local] = known.rates;
    facts.extend([
        ("hostname", endpoint.hostname.as_deref().unwrap_or_default().to_owned()),
        ("health_flags", known.flags.words(endpoint.health)),
        ("weight", endpoint.weight.to_string()),
        ("region", endpoint.locality.region.clone()),
        ("zone", endpoint.locality.zone.clone()),
        ("sub_zone", endpoint.locality.sub_zone.clone()),
        ("canary", "false".to_owned()),
        ("priority", priority.to_string()),
        ("success_rate", external.to_string()),
        ("local_origin_success_rate", local.to_string()),
    ]);
    facts
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
            level.endpoints.iter().map(move |e| endpoint_json(cluster, e, priority))
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

fn endpoint_json(cluster: &ClusterHandle, endpoint: &Endpoint, priority: usize) -> Value {
    let known = Known::of(cluster, endpoint);
    let address = match &endpoint.address {
        EndpointAddress::Socket(address) => {
            json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
        }
        EndpointAddress::Pipe(path) => json!({"pipe": {"path": path}}),
    };
    let (counters, gauges) = known.statistics();
    let counters = counters.iter().map(|(name, value)| statistic(name, *value));
    let gauges = gauges.iter().map(|(name, value)| {
        let mut gauge = statistic(name, *value);
        gauge["type"] = "GAUGE".into();
        gauge
    });
    let mut value = json!({
        "address": address,
        "stats": counters.chain(gauges).collect::<Vec<_>>(),
        "hostname": endpoint.hostname.as_deref().unwrap_or_default(),
        "health_status": health_status(known.flags, endpoint.health),
        "weight": endpoint.weight,
        "priority": priority,
        "locality": {"region": endpoint.locality.region, "zone": endpoint.locality.zone,
                     "sub_zone": endpoint.locality.sub_zone},
    });
    for (name, rate) in ["success_rate", "local_origin_success_rate"].iter().zip(known.rates) {
        if rate >= 0.0 {
            value[name] = json!({ "value": rate });
        }
    }
    value
}

/// A zero is left out, as protobuf's JSON does.
fn statistic(name: &str, value: u64) -> Value {
    match value {
        0 => json!({ "name": name }),
        value => json!({ "name": name, "value": value.to_string() }),
    }
}

fn health_status(flags: HealthFlags, reported: Health) -> Value {
    let reported = match reported {
        Health::Healthy => "HEALTHY",
        Health::Degraded => "DEGRADED",
        Health::Unhealthy => "UNHEALTHY",
        Health::Draining => "DRAINING",
    };
    let mut status = json!({ "eds_health_status": reported });
    for (flag, field) in [
        (HealthFlags::FAILED_ACTIVE, "failed_active_health_check"),
        (HealthFlags::FAILED_OUTLIER, "failed_outlier_check"),
        (HealthFlags::DEGRADED_ACTIVE, "failed_active_degraded_check"),
        (HealthFlags::PENDING_REMOVAL, "pending_dynamic_removal"),
        (HealthFlags::PENDING_ACTIVE, "pending_active_hc"),
        (HealthFlags::EXCLUDED, "excluded_via_immediate_hc_fail"),
        (HealthFlags::ACTIVE_TIMEOUT, "active_hc_timeout"),
    ] {
        if flags.any(flag) {
            status[field] = true.into();
        }
    }
    status
}
