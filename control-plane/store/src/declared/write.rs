//! From resources to a file's text.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use weft_control_model::{ResourceKey, ResourceKind};

use super::Format;

pub(super) fn render(
    resources: &BTreeMap<ResourceKey, Value>,
    format: Format,
) -> Result<String, String> {
    let mut sections = Map::new();
    for (key, value) in resources {
        let section = section(key.kind);
        if key.kind == ResourceKind::Mesh {
            sections.insert(section.to_owned(), value.clone());
            continue;
        }
        let items = sections.entry(section).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(items) = items {
            items.push(item(key, value.clone()));
        }
    }
    match format {
        Format::Json => serde_json::to_string_pretty(&sections).map_err(|error| error.to_string()),
        Format::Yaml => {
            let text = serde_saphyr::to_string(&sections).map_err(|error| error.to_string())?;
            Ok(format!("{}\n#END\n", text.trim_end()))
        }
    }
}

/// APISIX lists credentials among the consumers.
fn section(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Credential => ResourceKind::Consumer.directory(),
        _ => kind.directory(),
    }
}

/// The item with the id that makes its key again.
fn item(key: &ResourceKey, mut value: Value) -> Value {
    // A consumer is known by its name alone.
    if let (true, Value::Object(fields)) = (key.kind != ResourceKind::Consumer, &mut value) {
        // A number with the same digits stays a number.
        if !fields.get("id").is_some_and(|known| known.is_number()) {
            fields.insert("id".to_owned(), key.id.as_str().into());
        }
    }
    value
}
