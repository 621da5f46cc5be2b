//! References between resources, both ways.

use serde_json::Value;
use weft_control_model::{ResourceId, ResourceKey, ResourceKind};
use weft_store::Store;

use super::Checked;
use crate::error::AdminError;

/// The resource of `kind` that `field` names must exist.
pub(super) async fn exists(
    store: &dyn Store,
    conf: &Value,
    field: &str,
    kind: ResourceKind,
) -> Checked {
    let Some(id) = conf.get(field).map(plain) else {
        return Ok(());
    };
    if fetch(store, &kind.prefix(), &id).await?.is_some() {
        return Ok(());
    }
    let name = kind.singular();
    let message = format!("failed to fetch {name} info by {name} id [{id}], response code: 404");
    Err(AdminError::invalid(message))
}

/// The stored value of `id`.
pub(super) async fn fetch(
    store: &dyn Store,
    prefix: &str,
    id: &str,
) -> Result<Option<Value>, AdminError> {
    if id.parse::<ResourceId>().is_err() {
        return Ok(None);
    }
    let entry = store.get(&format!("{prefix}{id}")).await?;
    Ok(entry.map(|entry| serde_json::from_slice(&entry.value).unwrap_or_default()))
}

/// Refuses to delete what another resource still uses.
pub(crate) async fn unreferenced(store: &dyn Store, kind: ResourceKind, id: &str) -> Checked {
    let (users, field): (&[ResourceKind], _) = match kind {
        ResourceKind::Service => (&[ResourceKind::Route, ResourceKind::StreamRoute], "/service_id"),
        ResourceKind::ConsumerGroup => (&[ResourceKind::Consumer], "/group_id"),
        ResourceKind::PluginConfig => (&[ResourceKind::Route], "/plugin_config_id"),
        ResourceKind::StreamRoute => (&[ResourceKind::StreamRoute], "/protocol/superior_id"),
        ResourceKind::Proto => {
            (&[ResourceKind::Route, ResourceKind::Service], "/plugins/grpc-transcode/proto_id")
        }
        ResourceKind::Upstream => return upstream_unused(store, id).await,
        _ => return Ok(()),
    };
    for user in users {
        for (name, value) in all(store, *user).await? {
            if uses(&value, field, id) {
                let directly = if kind == ResourceKind::Service { " directly" } else { "" };
                return Err(still_used(kind, directly, user.singular(), &name));
            }
        }
    }
    Ok(())
}

fn still_used(kind: ResourceKind, directly: &str, by: &str, user: &str) -> AdminError {
    let (kind, by) = (kind.singular(), by.replace(' ', "_"));
    AdminError::invalid(format!(
        "can not delete this {kind}{directly}, {by} [{user}] is still using it now"
    ))
}

/// Upstreams are used by name and by the plugin `traffic-split`.
async fn upstream_unused(store: &dyn Store, id: &str) -> Checked {
    for users in [
        ResourceKind::Route,
        ResourceKind::Service,
        ResourceKind::StreamRoute,
        ResourceKind::PluginConfig,
        ResourceKind::Consumer,
        ResourceKind::ConsumerGroup,
        ResourceKind::GlobalRule,
    ] {
        for (user, value) in all(store, users).await? {
            let plugin = if splits_to(&value, id) {
                "plugin in "
            } else if uses(&value, "/upstream_id", id) {
                ""
            } else {
                continue;
            };
            let by = users.singular().replace(' ', "_");
            let message = format!(
                "can not delete this upstream, {plugin}{by} [{user}] is still using it now"
            );
            return Err(AdminError::invalid(message));
        }
    }
    Ok(())
}

/// Every stored value of `kind` with its id.
pub(super) async fn all(
    store: &dyn Store,
    kind: ResourceKind,
) -> Result<Vec<(String, Value)>, AdminError> {
    let prefix = kind.prefix();
    let listing = store.list(&prefix).await?;
    // Credentials stand among the consumers.
    let of_kind = |entry: &weft_store::Entry| {
        ResourceKey::parse(&entry.key).is_some_and(|key| key.kind == kind)
    };
    let values = listing.entries.into_iter().filter(of_kind).map(|entry| {
        let id = entry.key[prefix.len()..].to_owned();
        (id, serde_json::from_slice(&entry.value).unwrap_or_default())
    });
    Ok(values.collect())
}

fn uses(value: &Value, field: &str, id: &str) -> bool {
    value.pointer(field).is_some_and(|used| plain(used) == id)
}

/// Whether `traffic-split` sends a share to the upstream `id`.
fn splits_to(value: &Value, id: &str) -> bool {
    let rules = value.pointer("/plugins/traffic-split/rules").and_then(Value::as_array);
    let shares = rules.into_iter().flatten().filter_map(|rule| rule.get("weighted_upstreams"));
    let mut shares = shares.filter_map(Value::as_array).flatten();
    shares.any(|share| uses(share, "/upstream_id", id))
}

/// A string as it is, a number as its digits.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
