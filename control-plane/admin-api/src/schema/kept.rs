//! The schemas of the resources that are kept as they are written.

use serde_json::{Map, Value, json};

use super::parts::{host, id, remote_addr};
use super::resources::{closed, upstream};

pub(super) fn consumer() -> Value {
    let mut schema = closed(json!({
        "username": {
            "type": "string", "minLength": 1, "maxLength": 256, "pattern": r"^[a-zA-Z0-9_\-]+$",
        },
        "group_id": id(),
        "plugins": {"type": "object"},
    }));
    schema["required"] = json!(["username"]);
    schema
}

pub(super) fn credential() -> Value {
    closed(json!({
        "name": super::parts::name(),
        "plugins": {"type": "object", "maxProperties": 1},
    }))
}

/// What consumers, routes or everything share: `consumer_groups`, `plugin_configs`.
pub(super) fn plugin_set() -> Value {
    let mut schema = closed(json!({
        "name": super::parts::name(),
        "plugins": {"type": "object"},
    }));
    schema["required"] = json!(["plugins"]);
    schema
}

pub(super) fn global_rule() -> Value {
    let mut schema = closed(json!({"plugins": {"type": "object"}}));
    if let Some(Value::Object(fields)) = schema.get_mut("properties") {
        fields.retain(|name, _| !matches!(name.as_str(), "desc" | "labels"));
    }
    schema["required"] = json!(["plugins"]);
    schema
}

pub(super) fn proto() -> Value {
    let mut schema = closed(json!({
        "name": super::parts::name(),
        "content": {"type": "string", "minLength": 1, "maxLength": 1_048_576},
    }));
    schema["required"] = json!(["content"]);
    schema
}

pub(super) fn stream_route() -> Value {
    let logger = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "filter": {"type": "array"},
            "conf": {"type": "object"},
        },
        "dependencies": {"name": {"required": ["conf"]}},
        "additionalProperties": false,
    });
    closed(json!({
        "name": super::parts::name(),
        "remote_addr": remote_addr(),
        "server_addr": remote_addr(),
        "server_port": {"type": "integer"},
        "sni": host(),
        "upstream": upstream(),
        "upstream_id": id(),
        "service_id": id(),
        "plugins": {"type": "object"},
        "protocol": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "superior_id": id(),
                "conf": {"type": "object"},
                "logger": {"type": "array", "items": logger},
            },
            "required": ["name"],
        },
    }))
}

/// Where secrets are kept, by manager.
pub(super) fn secrets() -> [(&'static str, Value); 3] {
    let text = || json!({"type": "string"});
    let required = |fields: Value, names: &[&str]| {
        let mut schema = closed(fields);
        schema["required"] = json!(names);
        schema
    };
    let uri = json!({"type": "string", "pattern": r"^[^\/]+:\/\/([\da-zA-Z.-]+|\[[\da-fA-F:]+\])(:\d+)?"});
    let vault = json!({"uri": uri, "prefix": text(), "token": text(), "namespace": text()});
    let aws = json!({
        "access_key_id": text(),
        "secret_access_key": text(),
        "session_token": text(),
        "region": {"type": "string", "default": "us-east-1"},
        "endpoint_url": uri,
    });
    let account = json!({
        "type": "object",
        "properties": {
            "client_email": text(),
            "private_key": text(),
            "project_id": text(),
            "token_uri": {"type": "string", "default": "https://oauth2.googleapis.com/token"},
            "scope": {"type": "array", "items": text()},
            "entries_uri": {"type": "string", "default": "https://secretmanager.googleapis.com/v1"},
        },
        "required": ["client_email", "private_key", "project_id"],
    });
    let gcp = json!({
        "auth_config": account,
        "auth_file": text(),
        "ssl_verify": {"type": "boolean", "default": true},
    });
    let mut gcp = closed(gcp);
    gcp["oneOf"] = json!([{"required": ["auth_config"]}, {"required": ["auth_file"]}]);
    let all = [
        ("vault", required(vault, &["uri", "prefix", "token"])),
        ("aws", required(aws, &["access_key_id", "secret_access_key"])),
        ("gcp", gcp),
    ];
    all.map(|(name, mut schema)| {
        // The id is `manager/id`.
        schema["properties"]["id"] = text();
        (name, schema)
    })
}

/// What plugins for authentication that proxies do not run say of a consumer or a credential.
pub(super) fn authentication() -> [(&'static str, Value); 3] {
    let text = || json!({"type": "string"});
    let object = |fields: Value, required: &[&str]| json!({"type": "object", "properties": fields, "required": required});
    let mut jwt = object(
        json!({
            "key": {"type": "string", "minLength": 1},
            "secret": {"type": "string", "minLength": 1},
            "public_key": text(),
            "algorithm": {
                "type": "string",
                "enum": [
                    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384",
                    "ES512", "PS256", "PS384", "PS512", "EdDSA",
                ],
                "default": "HS256",
            },
            "exp": {"type": "integer", "minimum": 1, "default": 86400},
            "base64_secret": {"type": "boolean", "default": false},
            "lifetime_grace_period": {"type": "integer", "minimum": 0, "default": 0},
        }),
        &["key"],
    );
    let symmetric = json!({"properties": {"algorithm": {"enum": ["HS256", "HS384", "HS512"]}}});
    jwt["if"] = symmetric;
    jwt["else"] = json!({"required": ["public_key"]});
    let all = [
        ("jwt-auth", jwt),
        (
            "hmac-auth",
            object(
                json!({
                    "key_id": {"type": "string", "minLength": 1, "maxLength": 256},
                    "secret_key": {"type": "string", "minLength": 1, "maxLength": 256},
                }),
                &["key_id", "secret_key"],
            ),
        ),
        ("ldap-auth", object(json!({"user_dn": text()}), &["user_dn"])),
    ];
    all.map(|(name, mut schema)| {
        schema["properties"]["_meta"] = super::plugins::meta();
        (name, schema)
    })
}

/// The fields by which a consumer is found, which no two may share.
pub(crate) const IDENTIFYING: [(&str, &str); 3] =
    [("jwt-auth", "key"), ("hmac-auth", "key_id"), ("ldap-auth", "user_dn")];

/// The names of the properties of a schema.
pub(super) fn metadata() -> Value {
    let any = Map::from_iter([("id".to_owned(), json!({"type": "string"}))]);
    json!({"type": "object", "properties": any})
}
