//! Consumers, rules and what else carries plugins; protos and stream routes.

use base64::Engine;
use serde_json::{Map, Value};
use weft_control_model::{ResourceKey, ResourceKind};
use weft_store::Store;

use super::{Checked, plugin, reference, upstream};
use crate::error::AdminError;
use crate::schema;

/// Checks one beyond its schema; `id` is its own.
pub(super) async fn check(
    store: &dyn Store,
    key: &ResourceKey,
    conf: &Map<String, Value>,
    full: &Value,
) -> Checked {
    match key.kind {
        ResourceKind::Consumer | ResourceKind::Credential => {
            reference::exists(store, full, "group_id", ResourceKind::ConsumerGroup).await?;
            for (name, conf) in plugins(conf) {
                plugin::of_consumer(name, conf, key.kind == ResourceKind::Credential)?;
            }
            unique_keys(store, key, conf).await
        }
        ResourceKind::ConsumerGroup | ResourceKind::PluginConfig => every_plugin(conf),
        ResourceKind::GlobalRule => {
            every_plugin(conf)?;
            once_in_global_rules(store, key, conf).await
        }
        ResourceKind::StreamRoute => stream_route(store, key, full).await,
        ResourceKind::Proto => proto(conf),
        ResourceKind::PluginMetadata => {
            if !schema::is_plugin(key.id.as_str()) {
                return Err(AdminError::invalid("invalid plugin name"));
            }
            let definition = weft_plugins::definition(key.id.as_str());
            definition.map_or(Ok(()), |plugin| {
                plugin.check_metadata(full).map_err(AdminError::configuration)
            })
        }
        _ => Ok(()),
    }
}

fn is_reference(key: &str) -> bool {
    let start = key.get(..7).unwrap_or_default();
    start.eq_ignore_ascii_case("$env://") || key.starts_with("$secret://")
}

fn plugins(conf: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    conf.get("plugins").and_then(Value::as_object).into_iter().flatten()
}

fn every_plugin(conf: &Map<String, Value>) -> Checked {
    plugins(conf).try_for_each(|(name, conf)| plugin::check(name, conf))
}

/// A consumer is found by its key: no other may have the same.
async fn unique_keys(store: &dyn Store, own: &ResourceKey, conf: &Map<String, Value>) -> Checked {
    let known = |name: &str, conf: &Value| {
        let field = schema::identifying(name)?;
        let key = conf.get(field)?.as_str()?;
        // What a reference stands for is only known where it is used.
        (!is_reference(key)).then(|| (name.to_owned(), key.to_owned()))
    };
    let keys: Vec<_> = plugins(conf).filter_map(|(name, conf)| known(name, conf)).collect();
    if keys.is_empty() {
        return Ok(());
    }
    for entry in store.list(&ResourceKind::Consumer.prefix()).await?.entries {
        let Some(other) = ResourceKey::parse(&entry.key).filter(|other| other != own) else {
            continue;
        };
        let value: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        let Some(value) = value.as_object() else { continue };
        let mut theirs = plugins(value).filter_map(|(name, conf)| known(name, conf));
        if let Some((plugin, _)) = theirs.find(|pair| keys.contains(pair)) {
            let (consumer, _) =
                other.id.as_str().split_once('/').unwrap_or((other.id.as_str(), ""));
            let message =
                format!("duplicate key of plugin {plugin} found with consumer: {consumer}");
            return Err(AdminError::invalid(message));
        }
    }
    Ok(())
}

async fn once_in_global_rules(
    store: &dyn Store,
    own: &ResourceKey,
    conf: &Map<String, Value>,
) -> Checked {
    for (id, value) in reference::all(store, ResourceKind::GlobalRule).await? {
        if id == own.id.as_str() {
            continue;
        }
        let theirs = value.get("plugins");
        let mut shared = plugins(conf)
            .filter(|(name, _)| theirs.is_some_and(|theirs| theirs.get(name.as_str()).is_some()));
        if let Some((name, _)) = shared.next() {
            let message = format!("plugin '{name}' already exists in global rule with id '{id}'");
            return Err(AdminError::Invalid(message));
        }
    }
    Ok(())
}

async fn stream_route(store: &dyn Store, key: &ResourceKey, full: &Value) -> Checked {
    if let Some(inline) = full.get("upstream") {
        upstream::nodes(inline)?;
        upstream::check(store, inline).await?;
    }
    reference::exists(store, full, "upstream_id", ResourceKind::Upstream).await?;
    reference::exists(store, full, "service_id", ResourceKind::Service).await?;
    for (name, conf) in full.get("plugins").and_then(Value::as_object).into_iter().flatten() {
        plugin::of_stream(name, conf)?;
    }
    let Some(protocol) = full.get("protocol") else { return Ok(()) };
    let Some(superior) = protocol.get("superior_id").map(reference::plain) else { return Ok(()) };
    if superior == key.id.as_str() {
        return Err(AdminError::invalid("protocol.superior_id can't be the route itself"));
    }
    let prefix = ResourceKind::StreamRoute.prefix();
    let fetched = format!("failed to fetch stream routes[{superior}], ");
    let Some(above) = reference::fetch(store, &prefix, &superior).await? else {
        return Err(AdminError::invalid(fetched + "response code: 404"));
    };
    if above.pointer("/protocol/name") != protocol.get("name") {
        let message = format!("protocol mismatch with the superior stream route[{superior}]");
        return Err(AdminError::invalid(message));
    }
    Ok(())
}

/// Text of a `.proto` file, or a set of descriptors in base64.
fn proto(conf: &Map<String, Value>) -> Checked {
    let content = conf.get("content").and_then(Value::as_str).unwrap_or_default();
    let is_text = content.contains(['{', ';', '"', '=']) && content.contains(char::is_whitespace);
    let decoded = || base64::engine::general_purpose::STANDARD.decode(content.trim());
    if is_text || decoded().is_ok_and(|bytes| !bytes.is_empty()) {
        return Ok(());
    }
    let message = "invalid content: neither the text of a .proto file nor descriptors in base64";
    Err(AdminError::invalid(message))
}
