//! The request id, which carries whether its request is traced from proxy to proxy.

use http::{HeaderMap, HeaderName, HeaderValue};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where the reason stands: the digit that says the version of a random UUID.
const PLACE: usize = 14;
/// Length of a UUID.
const LENGTH: usize = 36;

/// Why a request is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceReason {
    /// By chance.
    Sampled,
    /// The client asked for it (`x-client-trace-id`).
    Client,
    /// A service asked for it (`x-envoy-force-trace`).
    Service,
}

/// Whether the request id says that its request is traced.
#[must_use]
pub fn request_id_reason(headers: &HeaderMap) -> Option<TraceReason> {
    match id(headers)?[PLACE] {
        b'9' => Some(TraceReason::Sampled),
        b'a' => Some(TraceReason::Service),
        b'b' => Some(TraceReason::Client),
        _ => None,
    }
}

/// Writes into the request id whether its request is traced.
pub fn mark_request_id(headers: &mut HeaderMap, reason: Option<TraceReason>) {
    let Some(id) = id(headers) else { return };
    let mut id = id.to_vec();
    id[PLACE] = match reason {
        None => b'4',
        Some(TraceReason::Sampled) => b'9',
        Some(TraceReason::Service) => b'a',
        Some(TraceReason::Client) => b'b',
    };
    if let Ok(value) = HeaderValue::from_bytes(&id) {
        headers.insert(REQUEST_ID, value);
    }
}

/// The number by which requests are sampled: every proxy on the way gets the same.
#[must_use]
pub fn request_id_number(headers: &HeaderMap) -> Option<u64> {
    let id = std::str::from_utf8(&id(headers)?[..8]).ok()?;
    u64::from_str_radix(id, 16).ok()
}

fn id(headers: &HeaderMap) -> Option<&[u8]> {
    let id = headers.get(REQUEST_ID)?.as_bytes();
    (id.len() == LENGTH).then_some(id)
}
