use proptest::prelude::*;

use super::super::framing::Framing;
use super::*;

const LIMITS: Limits = Limits { bytes: 4096, fields: 10, spelling: false };

fn take(bytes: &mut BytesMut, scan: &mut Scan) -> Result<Option<(Request<()>, Fields)>, Refusal> {
    let mut head = Request::new(());
    let fields = request(bytes, scan, LIMITS, &mut head)?;
    Ok(fields.map(|fields| (head, fields)))
}

fn read(bytes: &[u8]) -> Result<Option<(Request<()>, Fields)>, Refusal> {
    take(&mut BytesMut::from(bytes), &mut Scan::default())
}

#[test]
fn a_request_is_read_at_every_split_point() {
    let head = b"\r\nPOST /a?b=c HTTP/1.1\r\nHost: x.y:1\r\nX-Empty:\r\nx-two:  1 2 \r\nX-Two: \xe9\r\nContent-Length: 3\r\n\r\nabc";
    for split in 0..head.len() {
        let mut bytes = BytesMut::from(&head[..split]);
        let mut scan = Scan::default();
        let early = take(&mut bytes, &mut scan).unwrap();
        let found = match early {
            Some(found) => found,
            None => {
                bytes.extend_from_slice(&head[split..]);
                take(&mut bytes, &mut scan).unwrap().expect("all of it is there")
            }
        };
        let (head, fields) = found;
        let (parts, ()) = head.into_parts();
        assert_eq!((parts.method, parts.uri.to_string()), (Method::POST, "/a?b=c".to_owned()));
        assert_eq!(parts.headers["host"], "x.y:1");
        assert_eq!(parts.headers["x-empty"], "");
        let two: Vec<_> =
            parts.headers.get_all("x-two").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(two, [&b"1 2"[..], b"\xe9"]);
        assert_eq!(fields.of_request(parts.version), Ok(Framing::Length(3)));
        assert!(b"abc".starts_with(&bytes));
    }
}

#[test]
fn what_is_no_request_is_refused() {
    for head in [
        "GET / HTTP/1.1\nhost: a\n\n",
        "GET / HTTP/1.1\r\nhost: a\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\x01b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\x7f\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost\r\n\r\n",
        "GET / HTTP/1.1\r\nb\u{e4}d: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "G\x01T / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0",
    ] {
        let refusal = read(head.as_bytes()).err().map(Refusal::status);
        assert_eq!(refusal, Some(StatusCode::BAD_REQUEST), "{head:?}");
    }
}

#[test]
fn a_version_that_is_not_served_is_told_apart() {
    for head in [
        "GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nhost: a\r\n\r\n",
        "GET /\r\nhost: a\r\n\r\n",
    ] {
        let refusal = read(head.as_bytes()).err().map(Refusal::status);
        assert_eq!(refusal, Some(StatusCode::UPGRADE_REQUIRED), "{head:?}");
    }
}

#[test]
fn a_head_that_is_too_large_is_refused_before_it_is_whole() {
    let long = format!("GET / HTTP/1.1\r\nlong: {}", "x".repeat(5000));
    assert_eq!(read(long.as_bytes()).err(), Some(Refusal::HeadTooLarge));
    let many: String = (0..11).map(|i| format!("h{i}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\n{many}\r\n");
    assert_eq!(read(many.as_bytes()).err(), Some(Refusal::TooManyHeaders));
}

#[test]
fn a_response_may_be_sloppier_than_a_request() {
    let head = b"HTTP/1.1 200\nX-Fold: a\r\n\t b\r\nconnection: Close, x\r\n\r\nrest";
    let mut bytes = BytesMut::from(&head[..]);
    let (parts, fields) = response(&mut bytes, &mut Scan::default(), false).unwrap().unwrap();
    assert_eq!(parts.status, 200);
    assert!(parts.headers["x-fold"].to_str().unwrap().split_whitespace().eq(["a", "b"]));
    assert!(fields.close && !fields.keep_alive);
    assert_eq!(&bytes[..], b"rest");
    for wrong in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 20x OK\r\n\r\n", "HTTP/1.1 099 x\r\n\r\n"] {
        let mut bytes = BytesMut::from(wrong.as_bytes());
        assert!(response(&mut bytes, &mut Scan::default(), false).is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&bytes);
        let _ = response(&mut BytesMut::from(&bytes[..]), &mut Scan::default(), true);
    }

    #[test]
    fn a_mutated_request_is_refused_or_means_what_its_bytes_say(
        at in 0usize..64,
        byte: u8,
    ) {
        let mut head = b"POST /path HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nX: 1\r\n\r\n".to_vec();
        let at = at % head.len();
        head[at] = byte;
        if let Ok(Some((request, fields))) = read(&head)
            && let Ok(Framing::Length(length)) = fields.of_request(request.version())
        {
            let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let said = format!("\r\ncontent-length: {length}");
            let trimmed = text.replace('\t', " ");
            prop_assert!(
                text.contains(&said) || trimmed.contains("\r\ncontent-length:"),
                "{text:?} was read as {length}"
            );
        }
    }
}
