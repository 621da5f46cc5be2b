//! `TypedStruct`: a message that travels as JSON under a type name of its own.
//!
//! Both `xds.type.v3.TypedStruct` and the older `udpa.type.v1.TypedStruct` are on the wire of
//! today's control planes; they have the same two fields.

use prost::{Message, Name};
use serde_json::{Map, Value as Json};

use crate::{
    Any, AnyError,
    any::type_name,
    pb::google::protobuf::Struct,
    structs::{json_to_struct, struct_to_json},
};

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

    /// Packs `fields` as an `xds.type.v3.TypedStruct` that stands for `type_url`.
    #[must_use]
    pub fn pack(type_url: &str, fields: &Map<String, Json>) -> Any {
        crate::pack(&Wire { type_url: type_url.to_owned(), value: Some(json_to_struct(fields)) })
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

impl Name for Wire {
    const NAME: &'static str = "TypedStruct";
    const PACKAGE: &'static str = "xds.type.v3";
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
    fn other_messages_are_refused() {
        let any = crate::pack(&Struct::default());
        assert!(matches!(TypedStruct::open(&any), Err(AnyError::WrongType { .. })));
    }
}
