//! The preface: a number to know it by, a length, and an `Any` that holds a `Struct`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use weft_filter_api::Preface;
use weft_xds_proto::Message;
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::google::protobuf::{Any, Struct, value::Kind};

const MAGIC: [u8; 4] = 0x3D23_0467_u32.to_be_bytes();
/// Magic and length.
const HEADER: usize = 8;
/// The longest description that is waited for, bytes; what claims to be longer is none.
const LONGEST: usize = 1 << 20;

const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";
const METADATA: &str = "x-envoy-peer-metadata";
const METADATA_ID: &str = "x-envoy-peer-metadata-id";

/// The preface of a workload; `metadata` is an encoded `Struct`.
pub(super) fn write(metadata: &[u8], id: &str) -> Bytes {
    // Written by hand, so that the same workload always sends the same bytes.
    let entry =
        |key: &str, value: &[u8]| field(1, &[field(1, key.as_bytes()), field(2, value)].concat());
    // Of `Value`: 5 is `struct_value`, 3 is `string_value`.
    let mut fields = entry(METADATA, &field(5, metadata));
    if !id.is_empty() {
        fields.extend(entry(METADATA_ID, &field(3, id.as_bytes())));
    }
    let any = Any { type_url: STRUCT.to_owned(), value: fields }.encode_to_vec();
    let length = u32::try_from(any.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&MAGIC[..], &length, &any].concat().into()
}

/// Looks at the first bytes that a peer sent.
pub(super) fn read(bytes: &[u8]) -> Preface {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Preface::Absent;
    }
    let Some(length) = bytes.get(MAGIC.len()..HEADER) else { return Preface::More };
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    if length > LONGEST {
        return Preface::Malformed(HEADER);
    }
    let Some(any) = bytes.get(HEADER..HEADER + length) else { return Preface::More };
    match metadata(any) {
        Some(metadata) => Preface::Whole { length: HEADER + length, metadata },
        None => Preface::Malformed(HEADER),
    }
}

fn metadata(any: &[u8]) -> Option<Vec<u8>> {
    let any = Any::decode(any).ok()?;
    let fields = match type_name(&any.type_url) {
        "google.protobuf.Struct" => Struct::decode(any.value.as_slice()).ok()?.fields,
        _ => return Some(Vec::new()),
    };
    let said = fields.into_iter().find(|(name, _)| name == METADATA);
    match said.and_then(|(_, value)| value.kind) {
        Some(Kind::StructValue(said)) => {
            Some(BASE64_STANDARD.encode(said.encode_to_vec()).into_bytes())
        }
        _ => Some(Vec::new()),
    }
}

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}
