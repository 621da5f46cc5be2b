//! Finds unknown fields and unknown message types before a JSON document is mapped, where the
//! exact place is still at hand, and puts each `@type` first so that the mapping can stream.

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value as Json};

use crate::{
    any::type_name,
    descriptors::{ANY, is_well_known},
    json::JsonError,
};

/// Checks every field name and `@type` of `json` against the message it is to become.
pub(crate) fn check(message: &MessageDescriptor, json: &mut Json) -> Result<(), JsonError> {
    Walk { path: String::new(), pool: message.parent_pool().clone() }.message(message, json)
}

struct Walk {
    path: String,
    /// Has every type that the document names, if there is such a type.
    pool: DescriptorPool,
}

impl Walk {
    fn message(&mut self, message: &MessageDescriptor, json: &mut Json) -> Result<(), JsonError> {
        // A value of the wrong shape is reported by the mapping itself.
        let Json::Object(object) = json else {
            return Ok(());
        };
        match message.full_name() {
            ANY => self.any(object),
            name if is_well_known(name) => Ok(()),
            _ => self.fields(message, object),
        }
    }

    fn fields(
        &mut self,
        message: &MessageDescriptor,
        object: &mut Map<String, Json>,
    ) -> Result<(), JsonError> {
        for (key, value) in object.iter_mut() {
            if key == "@type" {
                continue;
            }
            let found =
                message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key));
            let Some(field) = found else {
                return self.at(&format!(".{key}"), |walk| Err(walk.unknown_field(message, key)));
            };
            self.at(&format!(".{key}"), |walk| walk.field(&field, value))?;
        }
        Ok(())
    }

    fn field(&mut self, field: &FieldDescriptor, json: &mut Json) -> Result<(), JsonError> {
        let Kind::Message(message) = field.kind() else {
            return Ok(());
        };
        match json {
            Json::Array(items) if field.is_list() => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.at(&format!("[{index}]"), |walk| walk.message(&message, item))?;
                }
                Ok(())
            }
            Json::Object(entries) if field.is_map() => {
                let Kind::Message(value_type) = message.map_entry_value_field().kind() else {
                    return Ok(());
                };
                for (key, value) in entries.iter_mut() {
                    self.at(&format!(".{key}"), |walk| walk.message(&value_type, value))?;
                }
                Ok(())
            }
            _ => self.message(&message, json),
        }
    }

    fn any(&mut self, object: &mut Map<String, Json>) -> Result<(), JsonError> {
        let name = match object.get("@type") {
            Some(Json::String(type_url)) => type_name(type_url).to_owned(),
            Some(_) => return self.at(".@type", |walk| Err(walk.error("must be a string"))),
            None => {
                return Err(self.error("needs \"@type\" with the name of the message it holds"));
            }
        };
        let Some(message) = self.pool.get_message_by_name(&name) else {
            return self.at(".@type", |walk| Err(walk.error(&format!("unknown message {name:?}"))));
        };
        if object.keys().next().is_some_and(|first| first != "@type") {
            let (types, rest): (Vec<_>, Vec<_>) =
                std::mem::take(object).into_iter().partition(|(key, _)| key == "@type");
            object.extend(types.into_iter().chain(rest));
        }
        if !is_well_known(message.full_name()) {
            return self.fields(&message, object);
        }
        match object.get_mut("value") {
            Some(value) => self.at(".value", |walk| walk.message(&message, value)),
            None => Err(self.error("needs \"value\" with the content of the well-known type")),
        }
    }

    /// Runs `step` with `segment` appended to the path.
    fn at(
        &mut self,
        segment: &str,
        step: impl FnOnce(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        let length = self.path.len();
        self.path.push_str(segment);
        step(self)?;
        self.path.truncate(length);
        Ok(())
    }

    fn unknown_field(&self, message: &MessageDescriptor, key: &str) -> JsonError {
        let name = message.full_name();
        match closest(message, key) {
            Some(field) => self.error(&format!("unknown field of {name}; did you mean {field:?}?")),
            None => self.error(&format!("unknown field of {name}")),
        }
    }

    fn error(&self, reason: &str) -> JsonError {
        JsonError::new(self.path.strip_prefix('.').unwrap_or(&self.path), reason)
    }
}

/// The field whose name is at most two edits away from `key`.
fn closest(message: &MessageDescriptor, key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase();
    message
        .fields()
        .map(|field| (edits(&key, field.name()), field.name().to_owned()))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, name)| name)
}

/// Levenshtein distance in bytes.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
