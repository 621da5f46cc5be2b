//! What is looked at before a connection has a filter chain.

use weft_net::{HelloError, parse_client_hello, parse_proxy_header};

use crate::Target;

pub(super) const HELLO: Target = Target {
    name: "client_hello",
    run: hello,
    seeds: hellos,
    words: &["\x16\x03\x01", "\x01\0\0", "\0\0\0", "\0\x10\0", "h2", "http/1.1", "\0\x2b\0"],
    quick: 5_000,
};
pub(super) const PROXY_HEADER: Target = Target {
    name: "proxy_header",
    run: proxy_header,
    seeds: headers,
    words: &["PROXY ", "TCP4 ", "TCP6 ", "UNKNOWN", "\r\n", " ", "::1", "\r\n\r\n\0\r\nQUIT\n"],
    quick: 5_000,
};

fn hello(input: &[u8]) {
    let whole = parse_client_hello(input);
    for end in 0..input.len().min(600) {
        match parse_client_hello(&input[..end]) {
            // Whoever has seen less may not know yet; what he knows stays so.
            Ok(None) => {}
            Err(HelloError::NotTls) => assert_eq!(whole, Err(HelloError::NotTls)),
            known => assert_eq!(known, whole, "after {end} bytes"),
        }
    }
    if let Ok(Some(hello)) = whole {
        assert!(hello.protocols.len() <= input.len());
    }
}

fn proxy_header(input: &[u8]) {
    let whole = parse_proxy_header(input);
    for end in 0..input.len().min(600) {
        match parse_proxy_header(&input[..end]) {
            Ok(None) => {}
            known => assert_eq!(known, whole, "after {end} bytes"),
        }
    }
    if let Ok(Some(header)) = whole {
        assert!(header.length <= input.len() && header.length > 0);
    }
}

fn hellos() -> Vec<Vec<u8>> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    let extensions = b"\0\0\0\x10\0\x0e\0\0\x0bwww.example\0\x10\0\x0e\0\x0c\x02h2\x08http/1.1";
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(body);
    [4096, 20].map(|size| message.chunks(size).flat_map(record).collect()).to_vec()
}

fn record(part: &[u8]) -> Vec<u8> {
    let mut record = vec![22, 3, 1];
    record.extend((part.len() as u16).to_be_bytes());
    record.extend(part);
    record
}

fn headers() -> Vec<Vec<u8>> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n".as_slice();
    let v4 = [0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 15, 160, 0, 80];
    let local = [0x20, 0, 0, 0];
    let v6 = [[0x21, 0x21, 0, 36].as_slice(), &[9; 36]].concat();
    vec![
        b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\nGET".to_vec(),
        b"PROXY TCP6 ::1 ::2 4000 80\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        [signature, &v4, b"GET"].concat(),
        [signature, &v6].concat(),
        [signature, &local].concat(),
    ]
}
