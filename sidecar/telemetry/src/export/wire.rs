//! The protobuf wire format, as far as records need it
//! (protobuf.dev/programming-guides/encoding).

/// A length-delimited field; written even when it is empty.
pub(crate) fn bytes(out: &mut Vec<u8>, number: u8, content: &[u8]) {
    tag(out, number, 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// A string; left out when it is empty.
pub(crate) fn text(out: &mut Vec<u8>, number: u8, content: &str) {
    if !content.is_empty() {
        bytes(out, number, content.as_bytes());
    }
}

/// An unsigned number, enumeration or flag; left out when it is zero.
pub(crate) fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        tag(out, field, 0);
        varint(out, value);
    }
}

/// A `fixed64`.
pub(crate) fn fixed64(out: &mut Vec<u8>, number: u8, value: u64) {
    tag(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A `fixed32`.
pub(crate) fn fixed32(out: &mut Vec<u8>, number: u8, value: u32) {
    tag(out, number, 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A message that `write` makes; written even when it is empty.
pub(crate) fn message(out: &mut Vec<u8>, number: u8, write: impl FnOnce(&mut Vec<u8>)) {
    tag(out, number, 2);
    let start = out.len();
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut prefix = Vec::new();
        varint(&mut prefix, length as u64);
        out.splice(start..=start, prefix);
    }
}

/// Numbers of fields above 15 take two bytes.
fn tag(out: &mut Vec<u8>, number: u8, kind: u8) {
    varint(out, u64::from(number) << 3 | u64::from(kind));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
