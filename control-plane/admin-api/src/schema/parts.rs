//! Schemas that several resources share.

use serde_json::{Value, json};

/// An id: text or a number.
pub(super) fn id() -> Value {
    json!({"anyOf": [
        {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9-_.]+$"},
        {"type": "integer", "minimum": 1},
    ]})
}

/// A host name, also with a leading `*`, or an address.
pub(super) fn host() -> Value {
    json!({"type": "string", "pattern": r"^\*$|^\*?[0-9a-zA-Z-._\[\]:]+$"})
}

/// At least one host name, each once.
pub(super) fn hosts() -> Value {
    json!({"type": "array", "items": host(), "minItems": 1, "uniqueItems": true})
}

pub(super) fn name() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 256})
}

pub(super) fn desc() -> Value {
    json!({"type": "string", "maxLength": 256})
}

pub(super) fn labels() -> Value {
    let value = json!({"type": "string", "pattern": r"^\S+$", "minLength": 1, "maxLength": 256});
    json!({"type": "object", "patternProperties": {".*": value}})
}

pub(super) fn timestamp() -> Value {
    json!({"type": "integer"})
}

/// 1 serves, 0 only stores.
pub(super) fn status() -> Value {
    json!({"type": "integer", "enum": [1, 0], "default": 1})
}

/// The methods that a route or a health check can name.
pub(super) fn method() -> Value {
    let methods =
        ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"];
    json!({"type": "string", "enum": methods})
}

pub(super) fn timeout() -> Value {
    let seconds = json!({"type": "number", "exclusiveMinimum": 0});
    json!({
        "type": "object",
        "properties": {"connect": seconds, "send": seconds, "read": seconds},
        "required": ["connect", "send", "read"],
    })
}

/// An address or a network.
pub(super) fn remote_addr() -> Value {
    let octet = "([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])";
    let v4 = [octet; 4].join(r"\.");
    let v6 = "([a-fA-F0-9]{0,4}:){1,8}(:[a-fA-F0-9]{0,4}){0,8}([a-fA-F0-9]{0,4})?";
    json!({"type": "string", "anyOf": [
        {"title": "IPv4", "type": "string", "format": "ipv4"},
        {"title": "IPv4/CIDR", "type": "string", "pattern": format!("^{v4}/([12]?[0-9]|3[0-2])$")},
        {"title": "IPv6", "type": "string", "format": "ipv6"},
        {"title": "IPv6/CIDR", "type": "string", "pattern": format!("^{v6}/[0-9]{{1,3}}$")},
    ]})
}

pub(super) fn certificate() -> Value {
    json!({"type": "string", "minLength": 128, "maxLength": 65536})
}

pub(super) fn private_key() -> Value {
    json!({"type": "string", "minLength": 64, "maxLength": 65536})
}

/// The keys of consistent hashing, by `hash_on`.
pub(super) fn hash_keys() -> [(&'static str, Value); 4] {
    let variables = "^((uri|server_name|server_addr|request_uri|remote_port|remote_addr\
                     |query_string|host|hostname|mqtt_client_id)|arg_[0-9a-zA-z_-]+)$";
    let token = json!({"type": "string", "pattern": "^[a-zA-Z0-9-_]+$"});
    [
        ("vars", json!({"type": "string", "pattern": variables})),
        ("header", token.clone()),
        ("cookie", token),
        ("vars_combinations", json!({"type": "string"})),
    ]
}

/// `checks` of an upstream.
pub(super) fn health_checks() -> Value {
    json!({
        "type": "object",
        "properties": {"active": active_check(), "passive": passive_check()},
        "anyOf": [{"required": ["active"]}, {"required": ["active", "passive"]}],
    })
}

fn statuses(default: &[u16]) -> Value {
    json!({
        "type": "array",
        "minItems": 1,
        "items": {"type": "integer", "minimum": 200, "maximum": 599},
        "uniqueItems": true,
        "default": default,
    })
}

fn count(least: u8, default: u8) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": 254, "default": default})
}

fn check_type() -> Value {
    json!({"type": "string", "enum": ["http", "https", "tcp"], "default": "http"})
}

fn active_check() -> Value {
    let interval = json!({"type": "integer", "minimum": 1, "default": 1});
    let mut http_method = method();
    http_method["default"] = json!("GET");
    json!({"type": "object", "properties": {
        "type": check_type(),
        "timeout": {"type": "number", "default": 1},
        "concurrency": {"type": "integer", "default": 10},
        "host": host(),
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "http_method": http_method,
        "http_path": {"type": "string", "default": "/"},
        "http_req_body": {"type": "string", "default": ""},
        "https_verify_certificate": {"type": "boolean", "default": true},
        "req_headers": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "healthy": {"type": "object", "properties": {
            "interval": interval,
            "http_statuses": statuses(&[200, 302]),
            "successes": count(1, 2),
        }},
        "unhealthy": {"type": "object", "properties": {
            "interval": interval,
            "http_statuses": statuses(&[429, 404, 500, 501, 502, 503, 504, 505]),
            "http_failures": count(1, 5),
            "tcp_failures": count(1, 2),
            "timeouts": count(1, 3),
        }},
    }})
}

fn passive_check() -> Value {
    let healthy: Vec<u16> = (200..=208).chain([226]).chain(300..=308).collect();
    json!({"type": "object", "properties": {
        "type": check_type(),
        "healthy": {"type": "object", "properties": {
            "http_statuses": statuses(&healthy),
            "successes": count(0, 5),
        }},
        "unhealthy": {"type": "object", "properties": {
            "http_statuses": statuses(&[429, 500, 503]),
            "http_failures": count(0, 5),
            "tcp_failures": count(0, 2),
            "timeouts": count(0, 7),
        }},
    }})
}
