//! Replies that the proxy makes itself.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use weft_filter_api::LocalReply;

use crate::names;

/// The head and the body of a reply; for gRPC the status and the text become trailers in the head.
pub(crate) fn head_and_body(reply: LocalReply, grpc: bool) -> (ResponseHead, Bytes) {
    let (mut head, ()) = Response::new(()).into_parts();
    head.headers = reply.headers;
    if grpc {
        as_grpc(&mut head.headers, reply.status, &reply.body);
        return (head, Bytes::new());
    }
    head.status = reply.status;
    if !has_body(reply.status) {
        return (head, Bytes::new());
    }
    if !reply.body.is_empty() {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
        if !head.headers.contains_key(CONTENT_TYPE) {
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
    } else {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    (head, reply.body)
}

fn has_body(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

fn as_grpc(headers: &mut HeaderMap, status: StatusCode, message: &[u8]) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.entry(names::GRPC_STATUS).or_insert_with(|| HeaderValue::from(grpc_status(status)));
    if !message.is_empty()
        && let Ok(message) = HeaderValue::try_from(grpc_message(message))
    {
        headers.insert(names::GRPC_MESSAGE, message);
    }
}

/// The gRPC status for an HTTP status (gRPC, HTTP to gRPC Status Code Mapping).
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Percent-encodes what `grpc-message` must not hold (gRPC over HTTP/2, Status-Message).
fn grpc_message(message: &[u8]) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message {
        if matches!(byte, b' '..=b'~') && *byte != b'%' {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_client_gets_its_own_status() {
        let reply = LocalReply::text(StatusCode::SERVICE_UNAVAILABLE, "no 100%\n", "x");
        let (head, body) = head_and_body(reply, true);
        assert_eq!((head.status, body.len()), (StatusCode::OK, 0));
        assert_eq!(head.headers[names::GRPC_STATUS], "14");
        assert_eq!(head.headers[names::GRPC_MESSAGE], "no 100%25%0A");
        assert_eq!(head.headers[CONTENT_TYPE], "application/grpc");
    }

    #[test]
    fn an_http_client_gets_plain_text() {
        let (head, body) =
            head_and_body(LocalReply::text(StatusCode::NOT_FOUND, "gone", "x"), false);
        assert_eq!((head.status, &body[..]), (StatusCode::NOT_FOUND, &b"gone"[..]));
        assert_eq!(head.headers[CONTENT_TYPE], "text/plain");
        assert_eq!(head.headers[CONTENT_LENGTH], "4");
    }
}
