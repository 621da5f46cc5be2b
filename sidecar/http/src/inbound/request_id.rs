//! `x-request-id`: a random UUID (RFC 9562, version 4).

use http::{HeaderMap, HeaderValue};

use crate::names;

/// Where the digits of each byte stand, past the dashes.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
/// The two digits of each byte.
const PAIRS: [[u8; 2]; 256] = pairs();

const fn pairs() -> [[u8; 2]; 256] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [HEX[byte >> 4], HEX[byte & 0xf]];
        byte += 1;
    }
    pairs
}

/// Sets the header, where it is missing or `replace` is set.
pub(super) fn ensure(headers: &mut HeaderMap, replace: bool) {
    if replace || !headers.contains_key(names::X_REQUEST_ID) {
        headers.insert(names::X_REQUEST_ID, fresh());
    }
}

fn fresh() -> HeaderValue {
    let mut bytes = fastrand::u128(..).to_be_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    for (byte, at) in bytes.into_iter().zip(PLACES) {
        text[at..at + 2].copy_from_slice(&PAIRS[usize::from(byte)]);
    }
    HeaderValue::from_bytes(&text).expect("invariant: hexadecimal digits and dashes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_only_where_one_is_missing() {
        let mut headers = HeaderMap::new();
        ensure(&mut headers, false);
        let first = headers[names::X_REQUEST_ID].clone();
        let text = first.to_str().unwrap();
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
        assert_eq!(text.matches('-').count(), 4);
        ensure(&mut headers, false);
        assert_eq!(headers[names::X_REQUEST_ID], first);
        ensure(&mut headers, true);
        assert_ne!(headers[names::X_REQUEST_ID], first);
    }
}
