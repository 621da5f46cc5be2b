//! The descriptors of every message that the mapping knows, decoded at first use.

use std::sync::LazyLock;

use prost::Name;
use prost_reflect::{DescriptorPool, MessageDescriptor};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    DescriptorPool::decode(bytes).expect("invariant: protoc wrote a complete descriptor set")
});

/// The descriptor of a message by its full name.
pub(crate) fn message(full_name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(full_name)
}

/// The descriptor of a generated message type.
pub(crate) fn of<M: Name>() -> Option<MessageDescriptor> {
    message(&M::full_name())
}

/// Whether JSON writes this message in a form of its own instead of field by field.
pub(crate) fn is_well_known(full_name: &str) -> bool {
    full_name.strip_prefix("google.protobuf.").is_some_and(|name| {
        matches!(
            name,
            "Any"
                | "Timestamp"
                | "Duration"
                | "Struct"
                | "FloatValue"
                | "DoubleValue"
                | "Int32Value"
                | "Int64Value"
                | "UInt32Value"
                | "UInt64Value"
                | "BoolValue"
                | "StringValue"
                | "BytesValue"
                | "FieldMask"
                | "ListValue"
                | "Value"
                | "Empty"
        )
    })
}

/// Full name of the message that carries others.
pub(crate) const ANY: &str = "google.protobuf.Any";
