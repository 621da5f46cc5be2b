//! Weft's own: the mesh's settings and what is known of the running mesh.

use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use weft_control_model::{MeshConfig, ResourceKey};
use weft_store::Put;

use crate::error::AdminError;
use crate::reply::{Reply, envelope};
use crate::request::Request;
use crate::state::AdminState;

/// A list that the running mesh makes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum View {
    Workloads,
    Nodes,
    Services,
}

impl View {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "workloads" => Some(Self::Workloads),
            "nodes" => Some(Self::Nodes),
            "services" => Some(Self::Services),
            _ => None,
        }
    }

    /// All, or the one that the second segment names.
    pub(crate) async fn serve(
        self,
        state: &AdminState,
        request: &Request,
    ) -> Result<Reply, AdminError> {
        let items = match self {
            Self::Workloads => items(state.mesh.workloads(), |workload| &workload.id)?,
            Self::Nodes => items(state.mesh.nodes(), |node| &node.id)?,
            Self::Services => items(state.mesh.services().await, |service| &service.host)?,
        };
        let directory = &request.segments[0];
        let shown = |(name, value): (String, Value)| json!({"key": format!("/weft/{directory}/{name}"), "value": value});
        let Some(wanted) = request.segments.get(1) else {
            let list: Vec<_> = items.into_iter().map(shown).collect();
            return Ok(Reply::ok(json!({"total": list.len(), "list": list})));
        };
        let found = items.into_iter().find(|(name, _)| name == wanted);
        found.map(|item| Reply::ok(shown(item))).ok_or(AdminError::KeyNotFound)
    }
}

fn items<T: Serialize>(
    items: Vec<T>,
    name: impl Fn(&T) -> &String,
) -> Result<Vec<(String, Value)>, AdminError> {
    let item = |item: T| Ok((name(&item).clone(), serde_json::to_value(&item)?));
    let items: Result<_, serde_json::Error> = items.into_iter().map(item).collect();
    items.map_err(|error| AdminError::invalid(error.to_string()))
}

/// Reads or replaces the mesh's settings; what isn't set shows its default.
pub(crate) async fn settings(state: &AdminState, request: Request) -> Result<Reply, AdminError> {
    let key = ResourceKey::mesh().to_string();
    if request.method == Method::GET {
        let Some(entry) = state.store.get(&key).await? else {
            let value = json!(MeshConfig::default());
            return Ok(Reply::ok(json!({"key": key, "value": value})));
        };
        let stored: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        let mesh = MeshConfig::from_json(&stored).map_err(AdminError::configuration)?;
        return Ok(Reply::ok(envelope(&entry, &json!(mesh))));
    }
    let body = request.body.ok_or_else(|| AdminError::invalid("missing configurations"))?;
    if !body.is_object() {
        return Err(AdminError::configuration(crate::schema::wrong_type("object", &body)));
    }
    let mesh = MeshConfig::from_json(&body).map_err(AdminError::configuration)?;
    check_trust_domain(&mesh.trust_domain)?;
    let written = state.store.put(Put::new(key.clone(), body.to_string())).await?;
    let created = written.created == written.revision;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::written(status, &key, &json!(mesh)))
}

/// SPIFFE's rule: lower-case letters, digits, dots, dashes and underscores.
fn check_trust_domain(name: &str) -> Result<(), AdminError> {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    if name.is_empty() || name.len() > 255 || !name.bytes().all(allowed) {
        let message = format!("trust_domain: {name:?} has other than a-z, 0-9, '.', '-' and '_'");
        return Err(AdminError::configuration(message));
    }
    Ok(())
}
