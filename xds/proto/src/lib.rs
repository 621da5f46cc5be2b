//! Envoy and xDS messages: type URLs, typed `Any` decoding, and the JSON and YAML mapping.
//!
//! The message types are those of the `envoy-types` crate, re-exported under [`pb`]. Everything
//! else here turns them into something else: [`any`] packs and unpacks `Any`, [`typed_struct`]
//! opens messages that travel as JSON, [`structs`] maps `google.protobuf.Struct`, and [`json`]
//! and [`yaml`] read and write the canonical JSON form with errors that carry a field's path.

pub mod any;
mod check;
mod descriptors;
pub mod istio;
pub mod json;
pub mod names;
pub mod resource_type;
pub mod structs;
pub mod typed_struct;
pub mod yaml;

/// The encoding traits of the generated messages.
pub use prost::{Message, Name};

/// The generated message types: `pb::envoy::…`, `pb::google::…`, `pb::xds::…`.
pub use envoy_types::pb;

pub use any::{AnyError, pack, unpack};
pub use descriptors::forget as forget_descriptors;
pub use json::{JsonError, Sensitive, any_to_json, from_json, to_json};
pub use pb::google::protobuf::Any;
pub use resource_type::{ResourceType, name_of};
pub use structs::{json_to_struct, struct_to_json};
pub use typed_struct::TypedStruct;
pub use yaml::{YamlError, from_yaml, yaml_to_json};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
