//! The bootstrap file of a topic; both proxies read the same.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::case::Topic;

/// Addresses of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// What the clients of the cases connect to.
    pub(crate) listener: SocketAddr,
    /// A listener that answers by itself and writes to the same access log.
    pub(crate) sync: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) upstream: SocketAddr,
    /// Where nobody listens.
    pub(crate) dead: SocketAddr,
    /// The access log.
    pub(crate) log: &'a Path,
}

/// What the access log says of each request.
const LOG_FORMAT: &str = "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% rx=%BYTES_RECEIVED% tx=%BYTES_SENT% \
    %UPSTREAM_CLUSTER% %ROUTE_NAME%\n";

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const FILE_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
const HTTP_OPTIONS: &str =
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The whole bootstrap, as JSON.
pub(crate) fn bootstrap(topic: &Topic, places: &Places<'_>) -> String {
    let mut listener = json!({
        "name": "cases",
        "address": address(places.listener),
        "filter_chains": [{ "filters": network_filters(topic, places) }],
    });
    merge(&mut listener, &Value::Object(topic.listener.clone()));
    let mut clusters = vec![upstream(topic, places)];
    clusters.extend(topic.clusters.iter().cloned());
    let whole = json!({
        "node": { "id": "diff", "cluster": "diff" },
        "admin": { "address": address(places.admin) },
        "static_resources": { "listeners": [listener, sync(places)], "clusters": clusters },
    });
    whole
        .to_string()
        .replace("${DEAD}", &places.dead.port().to_string())
        .replace("\"${UPSTREAM}\"", &places.upstream.port().to_string())
}

fn network_filters(topic: &Topic, places: &Places<'_>) -> Value {
    if let Some(filters) = &topic.network_filters {
        return Value::Array(filters.clone());
    }
    let mut filters = topic.filters.clone();
    filters.push(router());
    let routes = topic.routes.clone().unwrap_or_else(|| {
        json!({
            "name": "routes",
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{ "name": "all", "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }],
            }],
        })
    });
    let mut manager = json!({
        "@type": MANAGER,
        "stat_prefix": "diff",
        "delayed_close_timeout": "0.05s",
        "route_config": routes,
        "http_filters": filters,
        "access_log": [log(places.log, LOG_FORMAT)],
    });
    merge(&mut manager, &Value::Object(topic.manager.clone()));
    json!([{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }])
}

/// A listener whose answers end a case: its line in the log comes after those of the case.
fn sync(places: &Places<'_>) -> Value {
    let manager = json!({
        "@type": MANAGER,
        "stat_prefix": "sync",
        "route_config": {
            "name": "sync",
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }],
            }],
        },
        "http_filters": [router()],
        "access_log": [log(places.log, "sync %REQ(:PATH)%\n")],
    });
    let name = "envoy.filters.network.http_connection_manager";
    json!({
        "name": "sync",
        "address": address(places.sync),
        "filter_chains": [{ "filters": [{ "name": name, "typed_config": manager }] }],
    })
}

fn upstream(topic: &Topic, places: &Places<'_>) -> Value {
    let mut cluster = json!({
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(places.upstream) } }] }],
        },
    });
    if topic.upstream_http2 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": HTTP_OPTIONS,
                "explicit_http_config": { "http2_protocol_options": {} },
            }
        });
    }
    merge(&mut cluster, &Value::Object(topic.cluster.clone()));
    cluster
}

fn router() -> Value {
    json!({ "name": "envoy.filters.http.router", "typed_config": { "@type": ROUTER } })
}

fn log(path: &Path, format: &str) -> Value {
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": FILE_LOG,
            "path": path,
            "log_format": { "text_format_source": { "inline_string": format } },
        },
    })
}

fn address(address: SocketAddr) -> Value {
    let ip = address.ip().to_string();
    json!({ "socket_address": { "address": ip, "port_value": address.port() } })
}

/// Lays one value over another: objects field by field, everything else whole.
fn merge(into: &mut Value, over: &Value) {
    match (into, over) {
        (Value::Object(into), Value::Object(over)) => merge_fields(into, over),
        (into, over) => *into = over.clone(),
    }
}

fn merge_fields(into: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (name, value) in over {
        match into.get_mut(name) {
            Some(known) => merge(known, value),
            None => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}
