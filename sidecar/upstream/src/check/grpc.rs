//! Checks by a call of `grpc.health.v1.Health/Check` (gRPC Health Checking Protocol). The two
//! messages have one field each and are written here, so that this crate needs no protobuf.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use weft_model::GrpcCheck;

use super::HostCheck;
use super::http::{AGENT, add};
use super::standing::Finding;

/// `HealthCheckResponse.ServingStatus.SERVING`
const SERVING: u8 = 1;
/// The key of the field 1 of the request, a string.
const SERVICE: u8 = 0x0a;
/// The key of the field 1 of the response, a number.
const STATUS: u8 = 0x08;
/// The longest answer that is read, bytes.
const LONGEST: usize = 4096;

pub(super) async fn ask(host: &mut HostCheck, check: &GrpcCheck) -> Finding {
    let Some(mut link) = host.take_link(true).await else { return Finding::Network };
    let Some(request) = request(host, check) else { return Finding::Network };
    let Some(response) = link.send(request).await else { return Finding::Network };
    let (head, mut body) = response.into_parts();
    let mut trailers = HeaderMap::new();
    let mut message = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Finding::Network };
        if let Some(data) = frame.data_ref() {
            if message.len() + data.len() > LONGEST {
                return Finding::Network;
            }
            message.extend_from_slice(data);
        } else if let Ok(end) = frame.into_trailers() {
            trailers = end;
        }
    }
    host.link = Some(link);
    let status = trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status"));
    let ok = head.status == StatusCode::OK && status.is_some_and(|status| status == "0");
    if ok && serving(&message) {
        Finding::Good { degraded: false }
    } else {
        Finding::Bad { retriable: false, excluded: false }
    }
}

fn request(host: &HostCheck, check: &GrpcCheck) -> Option<Request<Full<Bytes>>> {
    let name = host.name(check.authority.as_ref())?;
    let mut request = Request::new(Full::new(question(&check.service)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() =
        host.uri(&name, PathAndQuery::from_static("/grpc.health.v1.Health/Check"))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, AGENT);
    add(headers, &check.metadata);
    Some(request)
}

/// `HealthCheckRequest`, framed: not compressed, its length, itself.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(SERVICE);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&message);
    framed.freeze()
}

/// Whether a framed `HealthCheckResponse` says SERVING.
fn serving(framed: &[u8]) -> bool {
    matches!(framed, [0, 0, 0, 0, 2, STATUS, SERVING])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_names_the_service() {
        assert_eq!(question(""), [0, 0, 0, 0, 0][..]);
        assert_eq!(question("a.B"), b"\x00\x00\x00\x00\x05\x0a\x03a.B"[..]);
        let long = question(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, SERVICE, 200, 1]);
    }

    #[test]
    fn only_serving_is_serving() {
        assert!(serving(b"\x00\x00\x00\x00\x02\x08\x01"));
        assert!(!serving(b"\x00\x00\x00\x00\x02\x08\x02"));
        assert!(!serving(b"\x00\x00\x00\x00\x00"));
    }
}
