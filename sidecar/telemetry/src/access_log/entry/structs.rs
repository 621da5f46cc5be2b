//! `google.protobuf.Struct` and what holds it.

use serde_json::{Map, Value};

use crate::Annotations;
use crate::export::wire;

/// The entries of `core.v3.Metadata`.
pub(super) fn metadata(annotations: &Annotations, out: &mut Vec<u8>) {
    for (namespace, fields) in annotations.namespaces() {
        entry(out, 1, namespace, |out| object(fields, out));
    }
}

/// An entry of a map of messages.
pub(super) fn entry(out: &mut Vec<u8>, field: u8, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
    wire::message(out, field, |out| {
        wire::text(out, 1, key);
        wire::message(out, 2, write);
    });
}

/// An `Any` with a `Struct`, or a `Value` of anything else.
pub(super) fn any(state: &Value, out: &mut Vec<u8>) {
    let mut content = Vec::new();
    let name = match state {
        Value::Object(fields) => {
            object(fields, &mut content);
            "Struct"
        }
        other => {
            value(other, &mut content);
            "Value"
        }
    };
    wire::text(out, 1, &format!("type.googleapis.com/google.protobuf.{name}"));
    wire::bytes(out, 2, &content);
}

fn object(fields: &Map<String, Value>, out: &mut Vec<u8>) {
    for (key, content) in fields {
        entry(out, 1, key, |out| value(content, out));
    }
}

fn value(content: &Value, out: &mut Vec<u8>) {
    match content {
        // Of `oneof` a zero is written, too.
        Value::Null => out.extend_from_slice(&[1 << 3, 0]),
        Value::Number(number) => {
            wire::fixed64(out, 2, number.as_f64().unwrap_or_default().to_bits());
        }
        Value::String(text) => wire::bytes(out, 3, text.as_bytes()),
        Value::Bool(flag) => out.extend_from_slice(&[4 << 3, u8::from(*flag)]),
        Value::Object(fields) => wire::message(out, 5, |out| object(fields, out)),
        Value::Array(values) => wire::message(out, 6, |out| {
            for content in values {
                wire::message(out, 1, |out| value(content, out));
            }
        }),
    }
}
