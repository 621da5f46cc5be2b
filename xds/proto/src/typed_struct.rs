//! `TypedStruct`: a message that travels as JSON under a type name of its own.
//!
//! Both `xds.type.v3.TypedStruct` and the older `udpa.type.v1.TypedStruct` are on the wire of
//! today's control planes; they have the same two fields.

use prost::Message;
use serde_json::{Map, Value as Json};

use crate::{Any, AnyError, any::type_name, pb::google::protobuf::Struct, structs::struct_to_json};

/// An opened `TypedStruct`: the type it stands for, and its fields as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedStruct {
    /// Type URL of the message that `value` describes.
    pub type_url: String,
    /// The message in its JSON form.
    pub value: Json,
}

impl TypedStruct {
    /// Full name of `xds.type.v3.TypedStruct`.
    pub const XDS: &'static str = "xds.type.v3.TypedStruct";
    /// Full name of `udpa.type.v1.TypedStruct`.
    pub const UDPA: &'static str = "udpa.type.v1.TypedStruct";

    /// Whether `any` holds a `TypedStruct` of either name.
    #[must_use]
    pub fn is(any: &Any) -> bool {
        matches!(type_name(&any.type_url), Self::XDS | Self::UDPA)
    }

    /// Opens a `TypedStruct` of either name.
    ///
    /// # Errors
    /// [`AnyError::WrongType`] when `any` holds something else, [`AnyError::Malformed`] when the
    /// bytes do not decode.
    pub fn open(any: &Any) -> Result<Self, AnyError> {
        if !Self::is(any) {
            return Err(AnyError::WrongType {
                expected: Self::XDS.to_owned(),
                found: any.type_url.clone(),
            });
        }
        let wire = Wire::decode(any.value.as_slice())
            .map_err(|source| AnyError::Malformed { type_url: any.type_url.clone(), source })?;
        let value = wire.value.as_ref().map(struct_to_json).unwrap_or_default();
        Ok(Self { type_url: wire.type_url, value: Json::Object(value) })
    }

    /// Packs `fields` as an `xds.type.v3.TypedStruct` that stands for `type_url`. The same fields
    /// always become the same bytes.
    #[must_use]
    pub fn pack(type_url: &str, fields: &Map<String, Json>) -> Any {
        let value = Some(ordered::fields(fields));
        crate::pack(&ordered::Wire { type_url: type_url.to_owned(), value })
    }

    /// Name of the message that this stands for, without the prefix of its type URL.
    #[must_use]
    pub fn type_name(&self) -> &str {
        type_name(&self.type_url)
    }
}

/// The encoding that both names share.
#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Struct>,
}

/// The same messages with the fields of a `Struct` in order: those of the generated one stand in a
/// hash table.
mod ordered {
    use std::collections::BTreeMap;

    use prost::{Message, Name, Oneof};
    use serde_json::{Map, Value as Json};

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Wire {
        #[prost(string, tag = "1")]
        pub(super) type_url: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<Fields>,
    }

    impl Name for Wire {
        const NAME: &'static str = "TypedStruct";
        const PACKAGE: &'static str = "xds.type.v3";
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Fields {
        #[prost(btree_map = "string, message", tag = "1")]
        fields: BTreeMap<String, Value>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Items {
        #[prost(message, repeated, tag = "1")]
        values: Vec<Value>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Value {
        #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
        kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    enum Kind {
        #[prost(int32, tag = "1")]
        Null(i32),
        #[prost(double, tag = "2")]
        Number(f64),
        #[prost(string, tag = "3")]
        Text(String),
        #[prost(bool, tag = "4")]
        Flag(bool),
        #[prost(message, tag = "5")]
        Fields(Fields),
        #[prost(message, tag = "6")]
        Items(Items),
    }

    pub(super) fn fields(object: &Map<String, Json>) -> Fields {
        let fields = object.iter().map(|(name, json)| (name.clone(), value(json)));
        Fields { fields: fields.collect() }
    }

    fn value(json: &Json) -> Value {
        let kind = match json {
            Json::Null => Kind::Null(0),
            Json::Bool(flag) => Kind::Flag(*flag),
            Json::Number(number) => Kind::Number(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Kind::Text(text.clone()),
            Json::Array(items) => Kind::Items(Items { values: items.iter().map(value).collect() }),
            Json::Object(object) => Kind::Fields(fields(object)),
        };
        Value { kind: Some(kind) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields() -> Map<String, Json> {
        json!({"count": 2, "time_window": 60}).as_object().unwrap().clone()
    }

    #[test]
    fn both_names_are_opened() {
        let mut any = TypedStruct::pack("type.googleapis.com/weft.plugins.LimitCount", &fields());
        for name in [TypedStruct::XDS, TypedStruct::UDPA] {
            any.type_url = format!("type.googleapis.com/{name}");
            let opened = TypedStruct::open(&any).unwrap();
            assert_eq!(opened.type_name(), "weft.plugins.LimitCount");
            assert_eq!(opened.value, Json::Object(fields()));
        }
    }

    #[test]
    fn the_same_fields_become_the_same_bytes() {
        let fields: Map<String, Json> = (0..50)
            .map(|number| (format!("field{number}"), json!([{"a": number}, null, true, "x"])))
            .collect();
        let first = TypedStruct::pack("weft.Test", &fields);
        assert_eq!(TypedStruct::pack("weft.Test", &fields), first);
        assert_eq!(TypedStruct::open(&first).unwrap().value, Json::Object(fields));
    }

    #[test]
    fn other_messages_are_refused() {
        let any = crate::pack(&Struct::default());
        assert!(matches!(TypedStruct::open(&any), Err(AnyError::WrongType { .. })));
    }
}
