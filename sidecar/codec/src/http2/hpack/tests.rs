use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use super::{Decoder, Encoder, Field, huffman};

fn decode(decoder: &mut Decoder, block: &[u8]) -> Vec<String> {
    let mut fields = Vec::new();
    decoder.decode(block, |field, _| fields.push(show(&field))).unwrap();
    fields
}

fn show(field: &Field) -> String {
    match field {
        Field::Method(method) => format!(":method: {method}"),
        Field::Scheme(scheme) => format!(":scheme: {scheme}"),
        Field::Authority(authority) => format!(":authority: {authority}"),
        Field::Path(path) => format!(":path: {path}"),
        Field::Protocol(_) => ":protocol".to_owned(),
        Field::Status(status) => format!(":status: {}", status.as_u16()),
        Field::Header(name, value) => format!("{name}: {}", value.to_str().unwrap()),
        Field::Malformed => "malformed".to_owned(),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

#[test]
fn requests_of_the_rfc_are_understood() {
    // RFC 7541, C.4: with Huffman's code, and a table that grows.
    let mut decoder = Decoder::new();
    let first = bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
    let expected = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
    assert_eq!(decode(&mut decoder, &first), expected);
    let second = bytes("8286 84be 5886 a8eb 1064 9cbf");
    assert_eq!(
        decode(&mut decoder, &second)[3..],
        [":authority: www.example.com", "cache-control: no-cache"]
    );
    let third = bytes("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf");
    assert_eq!(
        decode(&mut decoder, &third)[1..],
        [
            ":scheme: https",
            ":path: /index.html",
            ":authority: www.example.com",
            "custom-key: custom-value"
        ]
    );
}

#[test]
fn what_is_encoded_is_decoded_and_known_from_the_third_time_on() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let name = HeaderName::from_static("x-some");
    let mut lengths = Vec::new();
    for round in 0..300 {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        encoder.pseudo(&mut block, ":authority", b"a.example");
        encoder.header(&mut block, &name, &HeaderValue::from_static("the same"));
        let unique = HeaderValue::from(round);
        encoder.header(&mut block, &HeaderName::from_static("x-unique"), &unique);
        let fields = decode(&mut decoder, &block);
        let unique = format!("x-unique: {round}");
        assert_eq!(fields, [":authority: a.example", "x-some: the same", &*unique]);
        lengths.push(block.len());
    }
    assert!(lengths[0] >= 40 && lengths[2] < 20 && lengths[299] < 20, "{lengths:?}");
}

#[test]
fn old_entries_leave_both_tables() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for round in 0..2000 {
        let value = HeaderValue::try_from(format!("{}-{}", "x".repeat(100), round % 70)).unwrap();
        let mut block = Vec::new();
        encoder.header(&mut block, &http::header::ETAG, &value);
        encoder.header(&mut block, &http::header::ETAG, &value);
        let expected = format!("etag: {}", value.to_str().unwrap());
        assert_eq!(decode(&mut decoder, &block), [&*expected, &*expected]);
    }
}

#[test]
fn a_smaller_table_is_announced() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let value = HeaderValue::from_static("a value");
    for size in [4096, 0, 100, 4096] {
        encoder.set_limit(size);
        for _ in 0..4 {
            let mut block = Vec::new();
            encoder.begin(&mut block);
            encoder.header(&mut block, &http::header::ETAG, &value);
            assert_eq!(decode(&mut decoder, &block), ["etag: a value"]);
        }
    }
}

#[test]
fn secrets_are_never_indexed() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new();
    for _ in 0..4 {
        let mut block = Vec::new();
        let value = HeaderValue::from_static("Bearer x");
        encoder.header(&mut block, &http::header::AUTHORIZATION, &value);
        decoder
            .decode(&block, |field, _| {
                assert!(matches!(field, Field::Header(_, value) if value.is_sensitive()));
            })
            .unwrap();
        assert!(block.len() > 8);
    }
}

#[test]
fn fields_that_http2_forbids_are_malformed() {
    for (name, value) in [("Upper", "x"), ("connection", "close"), ("te", "gzip"), ("a b", "x")] {
        let mut block = vec![0, name.len() as u8];
        block.extend_from_slice(name.as_bytes());
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
        assert_eq!(decode(&mut Decoder::new(), &block), ["malformed"], "{name}");
    }
}

#[test]
fn broken_blocks_are_refused() {
    for block in [
        &[0x80][..],
        &[0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xfe],
        &[0x40, 5, b'a'],
        &[0x3f, 0xff, 0x7f],
    ] {
        assert!(Decoder::new().decode(block, |_, _| {}).is_err(), "{block:?}");
    }
}

#[test]
fn every_byte_has_a_code() {
    // The reference is another implementation, through a connection's header block.
    let mut out = Vec::new();
    huffman::decode(&bytes("f1e3 c2e5 f23a 6ba0 ab90 f4ff"), &mut out).unwrap();
    assert_eq!(out, b"www.example.com");
    out.clear();
    // RFC 7541, C.6.1: a date and an address.
    huffman::decode(&bytes("d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff"), &mut out)
        .unwrap();
    assert_eq!(out, b"Mon, 21 Oct 2013 20:13:21 GMT");
    for broken in ["ff", "ffff", "ffff ffff", "f1e3 c2e5 f23a 6ba0 ab90 f400", "1fff ff"] {
        assert!(huffman::decode(&bytes(broken), &mut Vec::new()).is_none(), "{broken}");
    }
}

#[test]
fn methods_are_parsed_once() {
    let field = super::field::Name::Method.with(Bytes::from_static(b"PATCH"));
    assert!(matches!(field, Field::Method(Method::PATCH)));
}
