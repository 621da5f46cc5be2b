//! Heads on their way out.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts as ResponseParts;
use http::{Extensions, HeaderMap, HeaderName, Method, Request, StatusCode, Uri};

use super::framing::Framing;
use super::spelling::{Speller, Spelling};

/// How much is reserved for a field and its line, bytes.
const USUAL_FIELD: usize = 48;

/// What a response says about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// Nothing beyond what its head says already.
    Unsaid,
    /// It ends.
    Close,
    /// It stays, which HTTP/1.0 does not expect.
    KeepAlive,
}

/// Writes a request's head.
pub(super) fn request<B>(
    out: &mut Vec<u8>,
    request: &Request<B>,
    framing: Framing,
    spelling: Spelling,
) {
    let headers = request.headers();
    out.reserve(64 + headers.len() * USUAL_FIELD);
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    write_target(out, request.method(), request.uri());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let has_length = write_fields(out, headers, request.extensions(), spelling);
    match framing {
        // Who sends no body where one is usual says so (RFC 9110, 8.6).
        Framing::Length(0) | Framing::None if !has_length && !has_body(request.method()) => {}
        Framing::None => write_length(out, 0, spelling),
        Framing::Length(length) => write_length(out, length, spelling),
        Framing::Chunked | Framing::UntilEnd => write_chunked(out, spelling),
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether requests of this method usually have a body.
fn has_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn write_target(out: &mut Vec<u8>, method: &Method, uri: &Uri) {
    if *method == Method::CONNECT {
        if let Some(authority) = uri.authority() {
            out.extend_from_slice(authority.as_str().as_bytes());
            return;
        }
    } else if let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) {
        out.extend_from_slice(scheme.as_bytes());
        out.extend_from_slice(b"://");
        out.extend_from_slice(authority.as_str().as_bytes());
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    if target.is_empty() || target.starts_with('?') {
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
}

/// Writes a response's head. `None` for the framing: the head's own `Content-Length` stays, as it
/// is about a body that is not sent.
pub(super) fn response(
    out: &mut Vec<u8>,
    head: &ResponseParts,
    framing: Framing,
    connection: Connection,
    spelling: Spelling,
) {
    out.reserve(96 + head.headers.len() * USUAL_FIELD);
    write_status(out, head.status);
    write_fields(out, &head.headers, &head.extensions, spelling);
    match framing {
        Framing::None => {
            // What HEAD or a cached response would have had.
            let about = head.headers.get(CONTENT_LENGTH);
            if let Some(length) = about.filter(|_| may_have_length(head.status)) {
                write_field(out, &CONTENT_LENGTH, length.as_bytes(), spelling);
            }
        }
        Framing::Length(length) => write_length(out, length, spelling),
        Framing::Chunked => write_chunked(out, spelling),
        Framing::UntilEnd => {}
    }
    match connection {
        Connection::Unsaid => {}
        Connection::Close => write_field(out, &http::header::CONNECTION, b"close", spelling),
        Connection::KeepAlive => {
            write_field(out, &http::header::CONNECTION, b"keep-alive", spelling);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn may_have_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT
}

fn write_status(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes all fields but those about the framing; returns whether a length was among those.
fn write_fields(
    out: &mut Vec<u8>,
    headers: &HeaderMap,
    extensions: &Extensions,
    spelling: Spelling,
) -> bool {
    let mut has_length = false;
    if spelling == Spelling::Lower {
        for (name, value) in headers {
            if is_framing(name) {
                has_length |= *name == CONTENT_LENGTH;
            } else {
                out.extend_from_slice(name.as_str().as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
        return has_length;
    }
    let mut speller = Speller::new(spelling, extensions);
    for (name, value) in headers {
        if is_framing(name) {
            has_length |= *name == CONTENT_LENGTH;
        } else {
            speller.write(out, name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    has_length
}

fn is_framing(name: &HeaderName) -> bool {
    match name.as_str().len() {
        14 => name == CONTENT_LENGTH,
        17 => name == TRANSFER_ENCODING,
        _ => false,
    }
}

fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8], spelling: Spelling) {
    Speller::new(spelling, &Extensions::new()).write(out, name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_chunked(out: &mut Vec<u8>, spelling: Spelling) {
    write_field(out, &TRANSFER_ENCODING, b"chunked", spelling);
}

fn write_length(out: &mut Vec<u8>, length: u64, spelling: Spelling) {
    let name: &[u8] =
        if spelling == Spelling::Title { b"Content-Length: " } else { b"content-length: " };
    out.extend_from_slice(name);
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = length;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn request_text(method: Method, uri: &str, framing: Framing, spelling: Spelling) -> String {
        let request = Request::builder().method(method).uri(uri).header("x-a", "1");
        let request = request.header("transfer-encoding", "gzip").body(()).unwrap();
        let mut out = Vec::new();
        super::request(&mut out, &request, framing, spelling);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_has_one_framing() {
        let text = request_text(Method::GET, "/a?b", Framing::None, Spelling::Lower);
        assert_eq!(text, "GET /a?b HTTP/1.1\r\nx-a: 1\r\n\r\n");
        let text = request_text(Method::POST, "*", Framing::None, Spelling::Lower);
        assert_eq!(text, "POST * HTTP/1.1\r\nx-a: 1\r\ncontent-length: 0\r\n\r\n");
        let text = request_text(Method::PUT, "http://h/p", Framing::Length(7), Spelling::Title);
        assert_eq!(text, "PUT http://h/p HTTP/1.1\r\nX-A: 1\r\nContent-Length: 7\r\n\r\n");
        let text = request_text(Method::GET, "/", Framing::Chunked, Spelling::Lower);
        assert_eq!(text, "GET / HTTP/1.1\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n");
        let text = request_text(Method::CONNECT, "h:1", Framing::None, Spelling::Lower);
        assert_eq!(text, "CONNECT h:1 HTTP/1.1\r\nx-a: 1\r\n\r\n");
    }

    #[test]
    fn a_response_says_what_its_body_is() {
        let write = |status: u16, framing, connection| {
            let response = Response::builder().status(status).header("content-length", "3");
            let (parts, ()) = response.body(()).unwrap().into_parts();
            let mut out = Vec::new();
            super::response(&mut out, &parts, framing, connection, Spelling::Lower);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            write(200, Framing::Length(u64::MAX), Connection::Close),
            "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\
             connection: close\r\n\r\n"
        );
        assert_eq!(
            write(304, Framing::None, Connection::KeepAlive),
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\
             connection: keep-alive\r\n\r\n"
        );
        assert_eq!(
            write(204, Framing::None, Connection::Unsaid),
            "HTTP/1.1 204 No Content\r\n\r\n"
        );
        assert_eq!(
            write(599, Framing::Chunked, Connection::Unsaid),
            "HTTP/1.1 599 Unknown\r\ntransfer-encoding: chunked\r\n\r\n"
        );
    }
}
