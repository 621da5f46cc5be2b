//! `configs`: the whole configuration at once, in the form of APISIX's
//! standalone mode.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Map, Value, json};
use weft_control_model::ResourceKind;

use crate::error::AdminError;
use crate::reply::Reply;
use crate::schema;

/// One item that is wrong.
struct Fault<'a> {
    section: &'a str,
    id: Option<String>,
    index: usize,
    error: String,
}

/// `POST configs/validate`: every item against its schema, no references.
pub(crate) fn validate(body: Option<Value>) -> Result<Reply, AdminError> {
    let Some(Value::Object(sections)) = body else {
        return Err(AdminError::invalid("invalid request body: empty request body"));
    };
    let mut faults = Vec::new();
    for kind in ResourceKind::ALL.into_iter().filter(|kind| is_section(*kind)) {
        let Some(section) = sections.get(kind.directory()) else { continue };
        match section {
            Value::Array(items) => check_items(kind, items, &mut faults),
            _ => faults.push(Fault {
                section: kind.directory(),
                id: None,
                index: 0,
                error: schema::wrong_type("array", section),
            }),
        }
    }
    if faults.is_empty() {
        return Ok(Reply::ok(json!({})));
    }
    let faults: Vec<_> = faults.into_iter().map(Fault::into_json).collect();
    let body = json!({"error_msg": "Configuration validation failed", "errors": faults});
    Ok(Reply::json(StatusCode::BAD_REQUEST, body))
}

/// Credentials stand among the consumers; the mesh's settings aren't APISIX's.
fn is_section(kind: ResourceKind) -> bool {
    !matches!(kind, ResourceKind::Credential | ResourceKind::Mesh)
}

fn check_items<'a>(kind: ResourceKind, items: &[Value], faults: &mut Vec<Fault<'a>>) {
    let mut known = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let id = id(kind, item);
        let duplicate = id.as_ref().is_some_and(|id| !known.insert(id.clone()));
        let checked = match duplicate {
            true => Err(format!("found duplicate id {}", id.as_deref().unwrap_or_default())),
            false => check_item(kind, id.as_deref().unwrap_or_default(), item),
        };
        if let Err(error) = checked {
            faults.push(Fault { section: kind.directory(), id, index, error });
        }
    }
}

fn check_item(kind: ResourceKind, id: &str, item: &Value) -> Result<(), String> {
    let mut item = item.clone();
    match kind {
        ResourceKind::Secret => {
            let manager = id.split('/').next().unwrap_or_default();
            let checked = schema::check_secret(manager, &mut item);
            checked.unwrap_or_else(|| Err(format!("invalid secret manager: {manager}")))
        }
        ResourceKind::Consumer => match id.split_once("/credentials/") {
            Some((_, own)) => {
                if let Some(fields) = item.as_object_mut() {
                    fields.insert("id".to_owned(), own.into());
                }
                schema::check(ResourceKind::Credential, &mut item)
            }
            None => schema::check(kind, &mut item),
        },
        _ => schema::check(kind, &mut item),
    }
}

fn id(kind: ResourceKind, item: &Value) -> Option<String> {
    let username = || item.get("username").filter(|_| kind == ResourceKind::Consumer);
    let id = item.get("id").or_else(username)?;
    Some(id.as_str().map_or_else(|| id.to_string(), str::to_owned))
}

impl Fault<'_> {
    fn into_json(self) -> Value {
        let mut fields = Map::from_iter([
            ("resource_type".to_owned(), json!(self.section)),
            ("index".to_owned(), json!(self.index)),
            ("error".to_owned(), json!(self.error)),
        ]);
        if let Some(id) = self.id {
            fields.insert("resource_id".to_owned(), json!(id));
        }
        Value::Object(fields)
    }
}
