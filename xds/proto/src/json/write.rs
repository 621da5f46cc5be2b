//! Messages to JSON, with the field names of the `.proto` files, as Envoy's `/config_dump` has
//! them. Writing never fails: what can't be decoded is kept as base64 under its type URL.

use base64::{Engine, prelude::BASE64_STANDARD};
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use serde_json::{Map, Value as Json, json};

use crate::{
    Any, TypedStruct,
    any::type_name,
    descriptors::{self, ANY, is_well_known},
};

mod secrets;

/// What happens to fields that Envoy marks as sensitive (private keys, passwords, tokens).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensitive {
    /// They are written as they are.
    Keep,
    /// Their content is replaced by `[redacted]`, as Envoy's `/config_dump` does.
    Redact,
}

/// What stands in the place of a redacted text.
const REDACTED: &str = "[redacted]";

/// Writes `message` as JSON with everything in it.
#[must_use]
pub fn to_json<M: Message + Name>(message: &M) -> Json {
    to_json_with(message, Sensitive::Keep)
}

/// Writes `message` as JSON, with sensitive fields kept or redacted.
#[must_use]
pub fn to_json_with<M: Message + Name>(message: &M, sensitive: Sensitive) -> Json {
    let bytes = message.encode_to_vec();
    let decoded = descriptors::message(&M::full_name())
        .and_then(|descriptor| DynamicMessage::decode(descriptor, bytes.as_slice()).ok());
    match decoded {
        Some(decoded) => Writer { sensitive }.message(&decoded),
        None => opaque(&M::full_name(), &bytes),
    }
}

/// Writes what `any` holds as JSON, with its type URL under `@type`.
#[must_use]
pub fn any_to_json(any: &Any, sensitive: Sensitive) -> Json {
    Writer { sensitive }.any(&any.type_url, &any.value)
}

struct Writer {
    sensitive: Sensitive,
}

impl Writer {
    fn message(&self, message: &DynamicMessage) -> Json {
        let descriptor = message.descriptor();
        match descriptor.full_name() {
            ANY => {
                let type_url = message.get_field_by_name("type_url");
                let value = message.get_field_by_name("value");
                self.any(
                    type_url.as_ref().and_then(|value| value.as_str()).unwrap_or_default(),
                    value.as_ref().and_then(|value| value.as_bytes()).map_or(&[], |bytes| bytes),
                )
            }
            // The mapping refuses what has no JSON form, like a year of five digits.
            name if is_well_known(name) => serde_json::to_value(message)
                .unwrap_or_else(|_| opaque(name, &message.encode_to_vec())),
            _ => Json::Object(self.fields(message)),
        }
    }

    fn any(&self, type_url: &str, bytes: &[u8]) -> Json {
        let name = type_name(type_url);
        let decoded = descriptors::message(name)
            .and_then(|descriptor| DynamicMessage::decode(descriptor, bytes).ok());
        let Some(decoded) = decoded else {
            return opaque(type_url, bytes);
        };
        if is_well_known(name) {
            return json!({ "@type": type_url, "value": self.message(&decoded) });
        }
        let mut object = Map::new();
        object.insert("@type".into(), type_url.into());
        object.extend(self.fields(&decoded));
        if self.sensitive == Sensitive::Redact
            && matches!(name, TypedStruct::XDS | TypedStruct::UDPA)
        {
            let stands_for = object.get("type_url").and_then(Json::as_str).map(type_name);
            let hides = secrets::Hides::of(stands_for.unwrap_or_default());
            if let (Some(hides), Some(value)) = (hides, object.get_mut("value")) {
                hides.redact(value);
            }
        }
        Json::Object(object)
    }

    fn fields(&self, message: &DynamicMessage) -> Map<String, Json> {
        message
            .fields()
            .map(|(field, value)| {
                let hidden = self.sensitive == Sensitive::Redact && is_sensitive(&field);
                let json = if hidden { redact(value) } else { self.field(&field, value) };
                (field.name().to_owned(), json)
            })
            .collect()
    }

    fn field(&self, field: &FieldDescriptor, value: &Value) -> Json {
        let kind = field.kind();
        match (value, &kind) {
            (Value::List(items), _) => {
                items.iter().map(|item| self.value(&kind, item)).collect::<Vec<_>>().into()
            }
            (Value::Map(entries), Kind::Message(entry)) => {
                let kind = entry.map_entry_value_field().kind();
                let mut entries: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| (map_key(key), self.value(&kind, value)))
                    .collect();
                entries.sort_by(|left, right| left.0.cmp(&right.0));
                Json::Object(entries.into_iter().collect())
            }
            _ => self.value(&kind, value),
        }
    }

    fn value(&self, kind: &Kind, value: &Value) -> Json {
        match value {
            Value::Bool(flag) => (*flag).into(),
            Value::I32(number) => (*number).into(),
            Value::U32(number) => (*number).into(),
            // 64-bit integers are strings in the canonical form: JSON readers use doubles.
            Value::I64(number) => number.to_string().into(),
            Value::U64(number) => number.to_string().into(),
            // By way of the shortest decimal, so that 0.1 is not written as 0.10000000149.
            Value::F32(number) => float(number.to_string().parse().unwrap_or(f64::NAN)),
            Value::F64(number) => float(*number),
            Value::String(text) => text.clone().into(),
            Value::Bytes(bytes) => BASE64_STANDARD.encode(bytes).into(),
            Value::EnumNumber(number) => match kind.as_enum().and_then(|e| e.get_value(*number)) {
                Some(value) => value.name().into(),
                None => (*number).into(),
            },
            Value::Message(message) => self.message(message),
            Value::List(_) | Value::Map(_) => Json::Null,
        }
    }
}

fn opaque(type_url: &str, bytes: &[u8]) -> Json {
    json!({ "@type": type_url, "value": BASE64_STANDARD.encode(bytes) })
}

fn float(number: f64) -> Json {
    match serde_json::Number::from_f64(number) {
        Some(number) => Json::Number(number),
        None if number.is_nan() => "NaN".into(),
        None if number > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Whether the field carries the option `(udpa.annotations.sensitive) = true`.
fn is_sensitive(field: &FieldDescriptor) -> bool {
    let options = field.options();
    options.extensions().any(|(extension, value)| {
        extension.full_name() == "udpa.annotations.sensitive" && value.as_bool() == Some(true)
    })
}

/// The value with every text and all bytes inside it replaced.
fn redact(value: &Value) -> Json {
    match value {
        Value::String(_) => REDACTED.into(),
        Value::Bytes(_) => BASE64_STANDARD.encode(REDACTED).into(),
        Value::List(items) => items.iter().map(redact).collect::<Vec<_>>().into(),
        Value::Map(entries) => {
            entries.iter().map(|(key, value)| (map_key(key), redact(value))).collect()
        }
        Value::Message(message) if is_well_known(message.descriptor().full_name()) => {
            REDACTED.into()
        }
        Value::Message(message) => message
            .fields()
            .map(|(field, value)| (field.name().to_owned(), redact(value)))
            .collect(),
        _ => Json::Null,
    }
}
