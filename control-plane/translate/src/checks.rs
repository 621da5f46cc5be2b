//! An upstream's health checks (`checks`) as Envoy's health checks and outlier detection.
//!
//! APISIX counts failures by kind (status, connection, time); a proxy has one threshold for an
//! active check, which is that of the check's type. A status that is neither among the healthy nor
//! the unhealthy ones changes nothing in APISIX and counts as healthy here. Of passive checks the
//! proxies count 5xx, whatever the list of statuses says, and failed connections and timeouts.

use std::time::Duration;

use serde_json::Value;
use weft_control_model::{Node, PassHost, Targets, Upstream};
use weft_xds_proto::pb::envoy::config::cluster::v3::{
    Cluster, OutlierDetection, cluster::CommonLbConfig,
};
use weft_xds_proto::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, HealthCheck, RequestMethod,
    header_value_option::HeaderAppendAction,
    health_check::{HealthChecker, HttpHealthCheck, TcpHealthCheck},
};
use weft_xds_proto::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, cluster_load_assignment::Policy,
};
use weft_xds_proto::pb::envoy::r#type::v3::{Int64Range, Percent};

use crate::envoy::{duration, flag, number};
use crate::problem::Unsupported;

/// `unhealthy.http_statuses` of an active check when they are not set.
const UNHEALTHY: [u64; 8] = [404, 429, 500, 501, 502, 503, 504, 505];

/// Gives a cluster the checks of its upstream; returns what has no effect.
pub(crate) fn apply(
    cluster: &mut Cluster,
    assignment: Option<&mut ClusterLoadAssignment>,
    upstream: &Upstream,
) -> Vec<Unsupported> {
    let Some(checks) = &upstream.checks else { return Vec::new() };
    let mut ignored = Vec::new();
    let active = &checks["active"];
    if active.is_object() {
        cluster.health_checks = vec![health_check(active, upstream, &mut ignored)];
    }
    let passive = &checks["passive"];
    if passive.is_object() {
        cluster.outlier_detection = Some(outlier(&passive["unhealthy"]));
    }
    // As APISIX: the unhealthy are used when nobody is healthy, and not before; a level is left
    // when all of its nodes are unhealthy.
    cluster.common_lb_config = Some(CommonLbConfig {
        healthy_panic_threshold: Some(Percent { value: 1.0 }),
        ..Default::default()
    });
    let assignment = assignment.or(cluster.load_assignment.as_mut());
    if let Some(assignment) = assignment {
        let largest = assignment.endpoints.iter().map(|level| level.lb_endpoints.len()).max();
        let factor = u32::try_from(largest.unwrap_or(1).max(2)).unwrap_or(u32::MAX);
        assignment.policy = Some(Policy {
            overprovisioning_factor: Some(number(factor.saturating_mul(100))),
            ..Default::default()
        });
    }
    ignored
}

fn health_check(
    active: &Value,
    upstream: &Upstream,
    ignored: &mut Vec<Unsupported>,
) -> HealthCheck {
    let (healthy, unhealthy) = (&active["healthy"], &active["unhealthy"]);
    let kind = active["type"].as_str().unwrap_or("http");
    if kind != "tcp" && (kind == "https") != upstream.scheme.is_tls() {
        let reason = format!("nodes are checked the way requests reach them, not over {kind}");
        ignored.push(Unsupported::new("checks.active.type", reason));
    }
    let (checker, failures) = if kind == "tcp" {
        (
            HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
            count(unhealthy, "tcp_failures", 2),
        )
    } else {
        (
            HealthChecker::HttpHealthCheck(http_check(active, upstream, ignored)),
            count(unhealthy, "http_failures", 5),
        )
    };
    let seconds =
        |value: &Value| Duration::from_secs(value["interval"].as_u64().unwrap_or(1).max(1));
    let interval = duration(seconds(healthy));
    let timeout = active["timeout"].as_f64().filter(|seconds| *seconds > 0.0).unwrap_or(1.0);
    let timeout = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::from_secs(1));
    HealthCheck {
        timeout: Some(duration(timeout)),
        interval: Some(interval),
        // APISIX checks whether there is traffic or not.
        no_traffic_interval: Some(interval),
        unhealthy_interval: Some(duration(seconds(unhealthy))),
        unhealthy_threshold: Some(number(failures)),
        healthy_threshold: Some(number(count(healthy, "successes", 2))),
        alt_port: active["port"].as_u64().and_then(|port| u32::try_from(port).ok()).map(number),
        health_checker: Some(checker),
        ..Default::default()
    }
}

fn http_check(
    active: &Value,
    upstream: &Upstream,
    ignored: &mut Vec<Unsupported>,
) -> HttpHealthCheck {
    if active["http_req_body"].as_str().is_some_and(|body| !body.is_empty()) {
        let reason = "a proxy's health check has no body";
        ignored.push(Unsupported::new("checks.active.http_req_body", reason));
    }
    let unhealthy: Vec<u64> = match active["unhealthy"]["http_statuses"].as_array() {
        Some(own) => own.iter().filter_map(Value::as_u64).collect(),
        None => UNHEALTHY.to_vec(),
    };
    let method = active["http_method"].as_str().and_then(RequestMethod::from_str_name);
    HttpHealthCheck {
        host: host(active, upstream),
        path: active["http_path"].as_str().unwrap_or("/").to_owned(),
        method: method.unwrap_or(RequestMethod::Get).into(),
        expected_statuses: others(&unhealthy),
        retriable_statuses: unhealthy
            .iter()
            .filter_map(|status| range(*status, status + 1))
            .collect(),
        request_headers_to_add: headers(&active["req_headers"]),
        ..Default::default()
    }
}

/// The statuses besides these.
fn others(statuses: &[u64]) -> Vec<Int64Range> {
    let mut sorted = statuses.to_vec();
    sorted.sort_unstable();
    let mut ranges = Vec::new();
    let mut from = 200;
    for status in sorted.into_iter().chain([600]) {
        ranges.extend((from < status).then(|| range(from, status)).flatten());
        from = from.max(status + 1);
    }
    ranges
}

fn range(start: u64, end: u64) -> Option<Int64Range> {
    Some(Int64Range { start: i64::try_from(start).ok()?, end: i64::try_from(end).ok()? })
}

/// The host that a check names: its own, the one that requests are told, or the first node's.
fn host(active: &Value, upstream: &Upstream) -> String {
    if let Some(own) = active["host"].as_str() {
        return own.to_owned();
    }
    match (&upstream.pass_host, &upstream.targets) {
        (PassHost::Rewrite(host), _) => host.clone(),
        (_, Targets::Nodes(nodes)) => {
            nodes.first().map(|node: &Node| node.host.clone()).unwrap_or_default()
        }
        (_, Targets::Discovery(service)) => service.service_name.clone(),
    }
}

/// `["name: value"]`
fn headers(lines: &Value) -> Vec<HeaderValueOption> {
    let lines = lines.as_array().into_iter().flatten().filter_map(Value::as_str);
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| HeaderValueOption {
            header: Some(HeaderValue {
                key: name.trim().to_owned(),
                value: value.trim().to_owned(),
                ..Default::default()
            }),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..Default::default()
        })
        .collect()
}

fn outlier(unhealthy: &Value) -> OutlierDetection {
    let errors = count_or_none(unhealthy, "http_failures", 5);
    let connections = count_or_none(unhealthy, "tcp_failures", 2);
    let enforced = |count: u32| Some(number(if count > 0 { 100 } else { 0 }));
    OutlierDetection {
        consecutive_5xx: Some(number(errors.max(1))),
        enforcing_consecutive_5xx: enforced(errors),
        consecutive_local_origin_failure: Some(number(connections.max(1))),
        enforcing_consecutive_local_origin_failure: enforced(connections),
        split_external_local_origin_errors: true,
        enforcing_success_rate: Some(number(0)),
        enforcing_local_origin_success_rate: Some(number(0)),
        max_ejection_percent: Some(number(100)),
        successful_active_health_check_uneject_host: Some(flag(true)),
        ..Default::default()
    }
}

fn count(part: &Value, field: &str, default: u32) -> u32 {
    count_or_none(part, field, default).max(1)
}

/// Zero: it is not counted.
fn count_or_none(part: &Value, field: &str, default: u32) -> u32 {
    part[field].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(default)
}
