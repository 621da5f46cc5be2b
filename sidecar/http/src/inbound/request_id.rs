//! `x-request-id`: a random UUID (RFC 9562, version 4).

use http::{HeaderMap, HeaderValue};

use crate::names;

/// Sets the header, where it is missing or `replace` is set.
pub(super) fn ensure(headers: &mut HeaderMap, replace: bool) {
    if replace || !headers.contains_key(names::X_REQUEST_ID) {
        headers.insert(names::X_REQUEST_ID, fresh());
    }
}

fn fresh() -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = fastrand::u128(..).to_be_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 0xf)];
        at += 2;
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
