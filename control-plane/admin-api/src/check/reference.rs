//! References between resources, both ways.

use serde_json::Value;
use weft_control_model::{ResourceId, ResourceKind};
use weft_store::Store;

use super::Checked;
use crate::error::AdminError;

/// The resource that `field` names must exist.
pub(super) async fn exists(
    store: &dyn Store,
    conf: &Value,
    field: &str,
    prefix: &str,
    name: &str,
) -> Checked {
    let Some(id) = conf.get(field).map(plain) else {
        return Ok(());
    };
    if fetch(store, prefix, &id).await?.is_some() {
        return Ok(());
    }
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
    match kind {
        ResourceKind::Service => {
            for (user, value) in all(store, ResourceKind::Route).await? {
                if uses(&value, "service_id", id) {
                    let message = format!(
                        "can not delete this service directly, route [{user}] is still using it now"
                    );
                    return Err(AdminError::invalid(message));
                }
            }
            Ok(())
        }
        ResourceKind::Upstream => {
            upstream_unused(store, ResourceKind::Route, id).await?;
            upstream_unused(store, ResourceKind::Service, id).await
        }
        _ => Ok(()),
    }
}

async fn upstream_unused(store: &dyn Store, users: ResourceKind, id: &str) -> Checked {
    let name = users.singular();
    for (user, value) in all(store, users).await? {
        let by = if splits_to(&value, id) {
            format!("plugin in {name}")
        } else if uses(&value, "upstream_id", id) {
            name.to_owned()
        } else {
            continue;
        };
        let message = format!("can not delete this upstream, {by} [{user}] is still using it now");
        return Err(AdminError::invalid(message));
    }
    Ok(())
}

/// Every stored value of `kind` with its id.
async fn all(store: &dyn Store, kind: ResourceKind) -> Result<Vec<(String, Value)>, AdminError> {
    let prefix = kind.prefix();
    let listing = store.list(&prefix).await?;
    let values = listing.entries.into_iter().map(|entry| {
        let id = entry.key[prefix.len()..].to_owned();
        (id, serde_json::from_slice(&entry.value).unwrap_or_default())
    });
    Ok(values.collect())
}

fn uses(value: &Value, field: &str, id: &str) -> bool {
    value.get(field).is_some_and(|used| plain(used) == id)
}

/// Whether `traffic-split` sends a share to the upstream `id`.
fn splits_to(value: &Value, id: &str) -> bool {
    let rules = value.pointer("/plugins/traffic-split/rules").and_then(Value::as_array);
    let shares = rules.into_iter().flatten().filter_map(|rule| rule.get("weighted_upstreams"));
    let mut shares = shares.filter_map(Value::as_array).flatten();
    shares.any(|share| uses(share, "upstream_id", id))
}

/// A string as it is, a number as its digits.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
