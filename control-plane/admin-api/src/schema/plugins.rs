//! The schemas of the plugins.

use serde_json::{Value, json};

use super::{parts, resources};

/// Every plugin's schema, with the `_meta` that each may carry.
pub(super) fn all() -> [(&'static str, Value); 4] {
    let schemas = [
        ("traffic-split", traffic_split()),
        ("proxy-rewrite", proxy_rewrite()),
        ("proxy-mirror", proxy_mirror()),
        ("redirect", redirect()),
    ];
    schemas.map(|(name, mut schema)| {
        schema["properties"]["_meta"] = meta();
        (name, schema)
    })
}

pub(super) fn meta() -> Value {
    json!({
        "type": "object",
        "properties": {
            "disable": {"type": "boolean"},
            "error_response": {"oneOf": [{"type": "string"}, {"type": "object"}]},
            "priority": {"type": "integer"},
            "filter": {"type": "array"},
            "pre_function": {"type": "string"},
        },
        "additionalProperties": false,
    })
}

fn traffic_split() -> Value {
    let share = json!({"type": "object", "properties": {
        "upstream_id": parts::id(),
        "upstream": resources::upstream(),
        "weight": {"type": "integer", "minimum": 0, "default": 1},
    }});
    let rule = json!({"type": "object", "properties": {
        "match": {"type": "array", "items": {
            "type": "object", "properties": {"vars": {"type": "array"}},
        }},
        "weighted_upstreams": {
            "type": "array",
            "items": share,
            "minItems": 1,
            "maxItems": 20,
            "default": [{"weight": 1}],
        },
    }});
    json!({"type": "object", "properties": {"rules": {"type": "array", "items": rule}}})
}

fn proxy_rewrite() -> Value {
    let methods = [
        "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "MKCOL", "COPY", "MOVE", "PROPFIND",
        "LOCK", "UNLOCK", "PATCH", "TRACE",
    ];
    json!({
        "type": "object",
        "properties": {
            "uri": {"type": "string", "minLength": 1, "maxLength": 4096, "pattern": r"^\/.*"},
            "method": {"type": "string", "enum": methods},
            "regex_uri": {"type": "array", "minItems": 2, "items": {"type": "string"}},
            "host": {"type": "string", "pattern": r"^[0-9a-zA-Z-.]+(:\d{1,5})?$"},
            "headers": header_changes(),
            "use_real_request_uri_unsafe": {"type": "boolean", "default": false},
        },
        "minProperties": 1,
    })
}

/// `add`, `set` and `remove`, or names with the values to set.
fn header_changes() -> Value {
    let one = json!({"oneOf": [{"type": "string"}, {"type": "number"}]});
    let many = json!({"type": "array", "minItems": 1, "items": one});
    let value = json!({"oneOf": [{"type": "string"}, {"type": "number"}, many]});
    let values = json!({
        "type": "object", "minProperties": 1, "patternProperties": {"^[^:]+$": value},
    });
    let names = json!({"type": "string", "pattern": "^[^:]+$"});
    json!({"oneOf": [
        {
            "type": "object",
            "minProperties": 1,
            "properties": {
                "add": values,
                "set": values,
                "remove": {"type": "array", "minItems": 1, "items": names},
            },
            "additionalProperties": false,
        },
        {"type": "object", "minProperties": 1, "patternProperties": {"^[^:]+$": one}},
    ]})
}

fn proxy_mirror() -> Value {
    let host = r"^(http(s)?|grpc(s)?):\/\/([\da-zA-Z.-]+|\[[\da-fA-F:]+\])(:\d+)?$";
    json!({
        "type": "object",
        "properties": {
            "host": {"type": "string", "pattern": host},
            "path": {"type": "string", "pattern": "^/[^?&]+$"},
            "path_concat_mode": {
                "type": "string", "enum": ["replace", "prefix"], "default": "replace",
            },
            "sample_ratio": {"type": "number", "minimum": 0.00001, "maximum": 1, "default": 1},
        },
        "required": ["host"],
    })
}

fn redirect() -> Value {
    let template = r"(\\\$[0-9a-zA-Z_]+)|\$\{([0-9a-zA-Z_]+)\}|\$([0-9a-zA-Z_]+)|(\$|[^$\\]+)";
    json!({
        "type": "object",
        "properties": {
            "ret_code": {"type": "integer", "minimum": 200, "default": 302},
            "uri": {"type": "string", "minLength": 2, "pattern": template},
            "regex_uri": {
                "type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "string"},
            },
            "http_to_https": {"type": "boolean"},
            "encode_uri": {"type": "boolean", "default": false},
            "append_query_string": {"type": "boolean", "default": false},
        },
        "oneOf": [
            {"required": ["uri"]},
            {"required": ["regex_uri"]},
            {"required": ["http_to_https"]},
        ],
    })
}
