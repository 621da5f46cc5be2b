//! The schemas of the resources.

use serde_json::{Map, Value, json};

use super::parts::{
    certificate, desc, health_checks, host, hosts, id, labels, method, name, private_key,
    remote_addr, status, timeout, timestamp,
};

pub(super) fn route() -> Value {
    let fields = json!({
        "name": name(),
        "uri": {"type": "string", "minLength": 1, "maxLength": 4096},
        "uris": {
            "type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": true,
        },
        "priority": {"type": "integer", "default": 0},
        "methods": {"type": "array", "items": method(), "uniqueItems": true},
        "host": host(),
        "hosts": hosts(),
        "remote_addr": remote_addr(),
        "remote_addrs": {
            "type": "array", "items": remote_addr(), "minItems": 1, "uniqueItems": true,
        },
        "timeout": timeout(),
        "vars": {"type": "array"},
        "filter_func": {"type": "string", "minLength": 10, "pattern": "^function"},
        "script": script(),
        "script_id": id(),
        "plugins": {"type": "object"},
        "plugin_config_id": id(),
        "upstream": upstream(),
        "upstream_id": id(),
        "service_id": id(),
        "enable_websocket": {"type": "boolean"},
        "status": status(),
    });
    let mut schema = closed(fields);
    schema["allOf"] = json!([
        {"oneOf": [{"required": ["uri"]}, {"required": ["uris"]}]},
        at_most_one("host", "hosts"),
        at_most_one("remote_addr", "remote_addrs"),
    ]);
    let targets = ["plugins", "upstream", "upstream_id", "service_id"];
    let pairs = |uri: &'static str| targets.map(|target| json!({"required": [target, uri]}));
    let mut any: Vec<_> = pairs("uri").into_iter().chain(pairs("uris")).collect();
    any.extend(["uri", "uris"].map(|uri| json!({"required": ["script", uri]})));
    schema["anyOf"] = Value::Array(any);
    schema["not"] = json!({"anyOf": [
        {"required": ["script", "plugins"]},
        {"required": ["script", "plugin_config_id"]},
    ]});
    schema
}

pub(super) fn service() -> Value {
    closed(json!({
        "name": name(),
        "plugins": {"type": "object"},
        "upstream": upstream(),
        "upstream_id": id(),
        "script": script(),
        "enable_websocket": {"type": "boolean"},
        "hosts": hosts(),
    }))
}

pub(super) fn upstream() -> Value {
    let scheme = ["grpc", "grpcs", "http", "https", "tcp", "tls", "udp", "kafka"];
    let hash_on = ["vars", "header", "cookie", "consumer", "vars_combinations"];
    let pass_host = ["pass", "node", "rewrite"];
    let mut schema = closed(json!({
        "name": name(),
        "nodes": nodes(),
        "retries": {"type": "integer", "minimum": 0},
        "retry_timeout": {"type": "number", "minimum": 0},
        "timeout": timeout(),
        "tls": upstream_tls(),
        "keepalive_pool": {"type": "object", "properties": {
            "size": {"type": "integer", "minimum": 1, "default": 320},
            "idle_timeout": {"type": "number", "minimum": 0, "default": 60},
            "requests": {"type": "integer", "minimum": 1, "default": 1000},
        }},
        "type": {"type": "string", "default": "roundrobin"},
        "checks": health_checks(),
        "hash_on": {"type": "string", "enum": hash_on, "default": "vars"},
        "key": {"type": "string"},
        "scheme": {"enum": scheme, "default": "http"},
        "discovery_type": {"type": "string"},
        "discovery_args": {"type": "object", "properties": {
            "namespace_id": {"type": "string"},
            "group_name": {"type": "string"},
        }},
        "pass_host": {"type": "string", "enum": pass_host, "default": "pass"},
        "upstream_host": host(),
        "service_name": {"type": "string", "minLength": 1, "maxLength": 256},
    }));
    schema["oneOf"] = json!([
        {"required": ["nodes"]},
        {"required": ["service_name", "discovery_type"]},
    ]);
    schema
}

pub(super) fn ssl() -> Value {
    let protocols = ["TLSv1.1", "TLSv1.2", "TLSv1.3"];
    let mut schema = closed(json!({
        "type": {"type": "string", "enum": ["server", "client"], "default": "server"},
        "cert": certificate(),
        "key": private_key(),
        "sni": host(),
        "snis": {"type": "array", "items": host(), "minItems": 1},
        "certs": {"type": "array", "items": certificate()},
        "keys": {"type": "array", "items": private_key()},
        "client": {
            "type": "object",
            "properties": {
                "ca": certificate(),
                "depth": {"type": "integer", "minimum": 0, "default": 1},
                "skip_mtls_uri_regex": {
                    "type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": true,
                },
            },
            "required": ["ca"],
        },
        "status": status(),
        "ssl_protocols": {
            "type": "array", "items": {"enum": protocols}, "maxItems": 3, "uniqueItems": true,
        },
    }));
    schema["if"] = json!({"properties": {"type": {"enum": ["server"]}}});
    schema["then"] = json!({"oneOf": [
        {"required": ["sni", "key", "cert"]},
        {"required": ["snis", "key", "cert"]},
    ]});
    schema["else"] = json!({"required": ["key", "cert"]});
    schema
}

/// Weft's own; the fields mean what Istio's of the same name mean.
pub(super) fn peer_authentication() -> Value {
    let modes = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"];
    let mtls = json!({
        "type": "object",
        "properties": {"mode": {"type": "string", "enum": modes}},
        "additionalProperties": false,
    });
    let selector = json!({
        "type": "object",
        "properties": {"matchLabels": {
            "type": "object", "patternProperties": {".*": {"type": "string"}},
        }},
        "additionalProperties": false,
    });
    let mut schema = closed(json!({
        "name": name(),
        "namespace": {"type": "string", "minLength": 1, "maxLength": 253},
        "selector": selector,
        "mtls": mtls,
        "portLevelMtls": {
            "type": "object",
            "patternProperties": {"^[1-9][0-9]{0,4}$": mtls},
            "additionalProperties": false,
        },
    }));
    schema["required"] = json!(["namespace"]);
    schema
}

/// Weft's own; the fields mean what Istio's of the same name mean. Rules are read by the model, whose
/// complaints name the field.
pub(super) fn authorization_policy() -> Value {
    let mut schema = closed(json!({
        "name": name(),
        "namespace": {"type": "string", "minLength": 1, "maxLength": 253},
        "selector": {"type": "object"},
        "action": {"type": "string", "enum": ["ALLOW", "DENY", "AUDIT", "CUSTOM"]},
        "rules": {"type": "array", "items": {"type": "object"}},
        "provider": {"type": "object"},
    }));
    schema["required"] = json!(["namespace"]);
    schema
}

/// An object of these fields and the ones that every resource has.
pub(super) fn closed(fields: Value) -> Value {
    let mut properties = Map::from_iter([
        ("id".to_owned(), id()),
        ("desc".to_owned(), desc()),
        ("labels".to_owned(), labels()),
        ("create_time".to_owned(), timestamp()),
        ("update_time".to_owned(), timestamp()),
    ]);
    if let Value::Object(fields) = fields {
        properties.extend(fields);
    }
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn at_most_one(one: &str, many: &str) -> Value {
    let either = json!({"anyOf": [{"required": [one]}, {"required": [many]}]});
    json!({"oneOf": [{"not": either}, {"required": [one]}, {"required": [many]}]})
}

fn script() -> Value {
    json!({"type": "string", "minLength": 10, "maxLength": 102_400})
}

fn nodes() -> Value {
    let weight = json!({"type": "integer", "minimum": 0});
    json!({"anyOf": [
        {"type": "object", "patternProperties": {".*": weight}},
        {"type": "array", "items": {
            "type": "object",
            "properties": {
                "host": host(),
                "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                "weight": weight,
                "priority": {"type": "integer", "default": 0},
                "metadata": {"type": "object"},
            },
            "required": ["host", "weight"],
        }},
    ]})
}

fn upstream_tls() -> Value {
    json!({
        "type": "object",
        "properties": {
            "client_cert_id": id(),
            "client_cert": certificate(),
            "client_key": private_key(),
            "verify": {"type": "boolean", "default": false},
        },
        "dependencies": {
            "client_cert": {"required": ["client_key"]},
            "client_key": {"required": ["client_cert"]},
            "client_cert_id": {"not": {"required": ["client_cert", "client_key"]}},
        },
    })
}
