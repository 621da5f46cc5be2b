//! The descriptors of the messages that the mapping meets.
//!
//! All of Envoy's take 20 MiB when they are decoded, more than a sidecar needs for everything
//! else. So only those files are decoded that the messages met so far depend on (some 6 MiB for a
//! usual bootstrap), and [`forget`] lets go of them when the mapping has done its work.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use prost::Message;
use prost_reflect::{DescriptorPool, MessageDescriptor};

/// Full name of the message that carries others.
pub(crate) const ANY: &str = "google.protobuf.Any";

static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Lets go of all descriptors, some MiB; they are decoded again when they are needed. Worth
/// calling after a bootstrap was read or a configuration dumped.
pub fn forget() {
    *LOADED.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The descriptor of a message by its full name.
pub(crate) fn message(full_name: &str) -> Option<MessageDescriptor> {
    load([full_name]).get_message_by_name(full_name)
}

/// A pool that has every message of these names that there is, and all that they depend on.
pub(crate) fn load<'a>(full_names: impl IntoIterator<Item = &'a str>) -> DescriptorPool {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.get_or_insert_with(Loaded::index).load(full_names)
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

/// The files of the descriptor set, and the pool of those that were needed so far.
struct Loaded {
    /// In an order in which each stands behind what it depends on, as protoc writes them.
    files: Vec<File>,
    file_of_message: BTreeMap<String, usize>,
    needed: BTreeSet<usize>,
    pool: DescriptorPool,
}

struct File {
    bytes: &'static [u8],
    dependencies: Vec<usize>,
}

impl Loaded {
    fn index() -> Self {
        let mut rest = BYTES;
        let mut files = Vec::new();
        let mut file_of_message = BTreeMap::new();
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        while let Some(bytes) = next_file(&mut rest) {
            let header =
                FileHeader::decode(bytes).expect("invariant: protoc wrote a descriptor set");
            let number = files.len();
            for message in header.message_type {
                file_of_message.insert(format!("{}.{}", header.package, message.name), number);
            }
            let dependencies = header.dependency.iter().map(|name| numbers[name]).collect();
            numbers.insert(header.name, number);
            files.push(File { bytes, dependencies });
        }
        Self { files, file_of_message, needed: BTreeSet::new(), pool: DescriptorPool::new() }
    }

    fn load<'a>(&mut self, full_names: impl IntoIterator<Item = &'a str>) -> DescriptorPool {
        let before = self.needed.len();
        let mut open: Vec<usize> =
            full_names.into_iter().filter_map(|name| self.file_of(name)).collect();
        while let Some(number) = open.pop() {
            if self.needed.insert(number) {
                open.extend(&self.files[number].dependencies);
            }
        }
        if self.needed.len() > before {
            let mut set = Vec::new();
            for number in &self.needed {
                let bytes = self.files[*number].bytes;
                prost::encoding::encode_key(
                    1,
                    prost::encoding::WireType::LengthDelimited,
                    &mut set,
                );
                prost::encoding::encode_varint(bytes.len() as u64, &mut set);
                set.extend_from_slice(bytes);
            }
            self.pool = DescriptorPool::decode(set.as_slice())
                .expect("invariant: the set holds all that its files depend on");
        }
        self.pool.clone()
    }

    /// The file of a message, or of the message around it.
    fn file_of(&self, full_name: &str) -> Option<usize> {
        let mut name = full_name;
        loop {
            if let Some(number) = self.file_of_message.get(name) {
                return Some(*number);
            }
            name = name.rsplit_once('.')?.0;
        }
    }
}

/// Cuts the encoding of the next file off a descriptor set.
fn next_file(rest: &mut &'static [u8]) -> Option<&'static [u8]> {
    if rest.is_empty() {
        return None;
    }
    let (_, _) = prost::encoding::decode_key(rest).ok()?;
    let length = usize::try_from(prost::encoding::decode_varint(rest).ok()?).ok()?;
    let (file, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(file)
}

/// What the index needs of a `google.protobuf.FileDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
struct FileHeader {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    message_type: Vec<MessageHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct MessageHeader {
    #[prost(string, tag = "1")]
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_decoded() {
        let mut loaded = Loaded::index();
        let pool = loaded.load(["envoy.config.endpoint.v3.ClusterLoadAssignment"]);
        assert!(pool.get_message_by_name("envoy.config.core.v3.Address").is_some());
        assert!(pool.files().len() < loaded.files.len() / 5);
        let grown = loaded.load(["envoy.config.route.v3.RouteConfiguration"]);
        assert!(grown.files().len() > pool.files().len());
        let same = loaded.load(["no.Such", "envoy.config.endpoint.v3.ClusterLoadAssignment"]);
        assert_eq!(same, grown);
    }

    #[test]
    fn a_nested_message_is_found_in_its_parents_file() {
        let name = "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy";
        assert!(message(name).is_some());
        forget();
        assert!(message(name).is_some());
        assert!(message("envoy.config.endpoint.v3.ClusterLoadAssignment.Nothing").is_none());
    }

    #[test]
    fn every_file_decodes() {
        let mut loaded = Loaded::index();
        let all: Vec<String> = loaded.file_of_message.keys().cloned().collect();
        let pool = loaded.load(all.iter().map(String::as_str));
        assert!(all.iter().all(|name| pool.get_message_by_name(name).is_some()));
    }
}
