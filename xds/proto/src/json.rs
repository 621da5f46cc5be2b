//! The canonical JSON form of protobuf messages, by reflection over Envoy's own definitions.

mod write;

use std::collections::BTreeSet;

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value as Json;

use crate::{any::type_name, check, descriptors};

pub use write::{Sensitive, any_to_json, to_json, to_json_with};

/// Why a JSON document is not the message it should be, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{reason}", .path, if .path.is_empty() { "" } else { ": " })]
pub struct JsonError {
    /// Path of the field, like `static_resources.listeners[0].address`; empty for the document
    /// as a whole.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl JsonError {
    pub(crate) fn new(path: &str, reason: &str) -> Self {
        Self { path: path.to_owned(), reason: reason.to_owned() }
    }
}

/// Maps JSON to a message. Field names are accepted as the `.proto` file spells them and in
/// lower camel case; `@type` messages inside are resolved by name; unknown fields are errors.
///
/// # Errors
/// [`JsonError`] with the path of the first field that is unknown or of the wrong kind.
pub fn from_json<M: Message + Name + Default>(mut json: Json) -> Result<M, JsonError> {
    let descriptor = descriptor_for(&M::full_name(), &json)
        .ok_or_else(|| JsonError::new("", &format!("unknown message {:?}", M::full_name())))?;
    check::check(&descriptor, &mut json)?;
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(json, &mut track);
    let dynamic = DynamicMessage::deserialize(descriptor, deserializer);
    let dynamic = dynamic.map_err(|error| {
        let path = track.path().to_string();
        JsonError::new(if path == "." { "" } else { &path }, &error.to_string())
    })?;
    dynamic.transcode_to().map_err(|error| JsonError::new("", &error.to_string()))
}

/// The descriptor of a message, in a pool that has all the types named in `json`, too.
fn descriptor_for(full_name: &str, json: &Json) -> Option<MessageDescriptor> {
    let mut types = BTreeSet::from([full_name]);
    let mut open = vec![json];
    while let Some(json) = open.pop() {
        match json {
            Json::Array(items) => open.extend(items),
            Json::Object(fields) => {
                types.extend(fields.get("@type").and_then(Json::as_str).map(type_name));
                open.extend(fields.values());
            }
            _ => {}
        }
    }
    descriptors::load(types).get_message_by_name(full_name)
}

#[cfg(test)]
mod tests;
