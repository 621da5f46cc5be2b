//! JSON schemas of the resources and plugins.
//!
//! Those of plugins that proxies run stand beside the plugins.

mod kept;
mod parts;
mod plugins;
mod resources;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use http::StatusCode;
use serde_json::Value;
use weft_apisix::Schema;
use weft_control_model::ResourceKind;

use crate::error::AdminError;
use crate::reply::Reply;
use crate::request::Query;
pub(crate) use weft_apisix::wrong_type;

static RESOURCES: LazyLock<BTreeMap<&'static str, Schema>> = LazyLock::new(|| {
    let schemas = [
        ("route", resources::route()),
        ("service", resources::service()),
        ("upstream", resources::upstream()),
        ("ssl", resources::ssl()),
        ("peer_authentication", resources::peer_authentication()),
        ("authorization_policy", resources::authorization_policy()),
        ("consumer", kept::consumer()),
        ("credential", kept::credential()),
        ("consumer_group", kept::plugin_set()),
        ("plugin_config", kept::plugin_set()),
        ("global_rule", kept::global_rule()),
        ("plugin_metadata", kept::metadata()),
        ("proto", kept::proto()),
        ("stream_route", kept::stream_route()),
    ];
    schemas.into_iter().map(|(name, json)| (name, Schema::new(json))).collect()
});

static PLUGINS: LazyLock<BTreeMap<&'static str, Schema>> = LazyLock::new(|| {
    plugins::all().into_iter().map(|(name, json)| (name, Schema::new(json))).collect()
});

/// What the plugins for authentication say of a consumer.
static AUTHENTICATION: LazyLock<BTreeMap<&'static str, Schema>> = LazyLock::new(|| {
    kept::authentication().into_iter().map(|(name, json)| (name, Schema::new(json))).collect()
});

/// Where secrets are, by manager.
static SECRETS: LazyLock<BTreeMap<&'static str, Schema>> = LazyLock::new(|| {
    kept::secrets().into_iter().map(|(name, json)| (name, Schema::new(json))).collect()
});

/// The keys of consistent hashing, by `hash_on`.
static HASH_KEYS: LazyLock<BTreeMap<&'static str, Schema>> = LazyLock::new(|| {
    parts::hash_keys().into_iter().map(|(name, json)| (name, Schema::new(json))).collect()
});

/// The plugins that stream routes may have, by priority.
pub(crate) const STREAM_PLUGINS: [&str; 1] = ["ip-restriction"];

/// Checks a resource and fills in its defaults.
///
/// # Errors
/// APISIX's message for the first error.
pub(crate) fn check(kind: ResourceKind, value: &mut Value) -> Result<(), String> {
    RESOURCES.get(name_of(kind).as_str()).map_or(Ok(()), |schema| schema.check(value))
}

/// The name of a kind's schema: `consumer_group`.
fn name_of(kind: ResourceKind) -> String {
    kind.singular().replace(' ', "_")
}

/// Checks a secret by its manager; `None` if there is no such manager.
pub(crate) fn check_secret(manager: &str, value: &mut Value) -> Option<Result<(), String>> {
    SECRETS.get(manager).map(|schema| schema.check(value))
}

/// Checks what a consumer says of a plugin for authentication; `None` if
/// there is no such plugin.
pub(crate) fn check_authentication(name: &str, value: &mut Value) -> Option<Result<(), String>> {
    AUTHENTICATION.get(name).map(|schema| schema.check(value))
}

/// Whether there is a plugin of this name.
pub(crate) fn is_plugin(name: &str) -> bool {
    PLUGINS.contains_key(name)
        || AUTHENTICATION.contains_key(name)
        || weft_plugins::definition(name).is_some()
}

/// The field by which a plugin finds a consumer, which no two may share.
pub(crate) fn identifying(name: &str) -> Option<&'static str> {
    let native = weft_plugins::definition(name).and_then(|plugin| plugin.consumer.as_ref());
    let other =
        || kept::IDENTIFYING.iter().find(|(plugin, _)| *plugin == name).map(|(_, key)| *key);
    native.map(|side| side.key).or_else(other)
}

/// The names of the plugins by priority, highest first.
pub(crate) fn plugin_names() -> Vec<&'static str> {
    let translated = weft_control_model::plugins::TRANSLATED.iter().copied();
    let native = weft_plugins::definitions().iter().map(|plugin| (plugin.name, plugin.priority));
    let mut all: Vec<_> = translated.chain(native).collect();
    all.sort_by_key(|(_, priority)| std::cmp::Reverse(*priority));
    all.into_iter().map(|(name, _)| name).collect()
}

/// The schemas of a plugin on routes and on consumers.
fn plugin_schemas(name: &str) -> (Option<Value>, Option<Value>) {
    if let Some(plugin) = weft_plugins::definition(name) {
        return (
            Some(with_meta(plugin.schema_json())),
            plugin.consumer_schema_json().map(with_meta),
        );
    }
    let json = |schema: &Schema| schema.json().clone();
    (PLUGINS.get(name).map(json), AUTHENTICATION.get(name).map(json))
}

/// With the `_meta` that each may carry.
fn with_meta(mut schema: Value) -> Value {
    schema["properties"]["_meta"] = plugins::meta();
    schema
}

/// Checks a plugin's configuration and fills in its defaults; `None` if there
/// is no such plugin.
pub(crate) fn check_plugin(name: &str, value: &mut Value) -> Option<Result<(), String>> {
    PLUGINS.get(name).map(|schema| schema.check(value))
}

/// Checks what is hashed.
pub(crate) fn check_hash_key(hash_on: &str, key: &mut Value) -> Result<(), String> {
    HASH_KEYS.get(hash_on).map_or(Ok(()), |schema| schema.check(key))
}

/// `GET schema/{name}`
pub(crate) fn reply(name: &str) -> Result<Reply, AdminError> {
    let schema = RESOURCES.get(name);
    let schema = schema.ok_or_else(|| AdminError::invalid(format!("not found schema: {name}")))?;
    Ok(Reply::ok(schema.json().clone()))
}

/// `GET plugins/{name}` and `GET schema/plugins/{name}`
pub(crate) fn plugin_reply(name: Option<&str>, query: &Query) -> Result<Reply, AdminError> {
    let subsystem = query.get("subsystem").unwrap_or("http");
    if !matches!(subsystem, "http" | "stream") {
        return Err(AdminError::invalid(format!("unsupported subsystem: {subsystem}")));
    }
    let name = name.filter(|_| subsystem == "http").unwrap_or_default();
    let missing = || AdminError::Unknown(format!("plugin not found in subsystem {subsystem}"));
    let of_consumer = query.get("schema_type") == Some("consumer");
    let (own, consumer) = plugin_schemas(name);
    let schema = match (of_consumer, own, consumer) {
        (true, Some(_), None) => return Err(AdminError::invalid("not found schema")),
        (true, _, Some(schema)) | (false, Some(schema), _) => schema,
        _ => return Err(missing()),
    };
    Ok(Reply::ok(schema))
}

/// `POST schema/validate/{resource}`: the schema only.
pub(crate) fn validate(plural: &str, body: Option<Value>) -> Result<Reply, AdminError> {
    let kind = ResourceKind::ALL.into_iter().find(|kind| kind.directory() == plural);
    let kind = kind.filter(|kind| RESOURCES.contains_key(name_of(*kind).as_str()));
    let kind = kind.ok_or_else(|| AdminError::UnsupportedResource(plural.to_owned()))?;
    let Some(mut value) = body else {
        return Err(AdminError::invalid("wrong type: expected object, got nil"));
    };
    check(kind, &mut value).map_err(AdminError::Invalid)?;
    Ok(Reply::empty(StatusCode::OK))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_schema_s_patterns_compile() {
        let resources =
            [resources::route(), resources::ssl(), resources::service(), resources::upstream()];
        let own = [resources::peer_authentication(), resources::authorization_policy()];
        let keys = parts::hash_keys().into_iter().map(|(_, schema)| schema);
        let plugins = plugins::all().into_iter().map(|(_, schema)| schema);
        for schema in resources.into_iter().chain(own).chain(keys).chain(plugins) {
            let _ = Schema::new(schema);
        }
    }

    #[test]
    fn defaults_are_filled_in() {
        let mut value = json!({"nodes": {}});
        Schema::new(resources::upstream()).check(&mut value).expect("valid");
        assert_eq!((&value["hash_on"], &value["type"]), (&json!("vars"), &json!("roundrobin")));
    }
}
