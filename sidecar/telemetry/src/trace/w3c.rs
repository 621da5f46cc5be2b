//! `traceparent` and `tracestate` (W3C Trace Context).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::SpanContext;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Flag 0: sampled.
const SAMPLED: u8 = 1;
/// Length of version 00.
const LENGTH: usize = 55;

/// Whether there is a caller's context, or what is meant to be one.
pub(super) fn is_there(headers: &HeaderMap) -> bool {
    headers.contains_key(TRACEPARENT)
}

/// The caller's context; `None` where there is none or it is malformed.
pub(super) fn extract(headers: &HeaderMap) -> Option<SpanContext> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let version = hex::<u8>(version, 2)?;
    let whole = if version == 0 { text.len() == LENGTH } else { text.len() >= LENGTH };
    if version == u8::MAX || !whole {
        return None;
    }
    let (trace, span) = (hex::<u128>(trace, 32)?, hex::<u64>(span, 16)?);
    let sampled = hex::<u8>(flags, 2)? & SAMPLED != 0;
    if trace == 0 || span == 0 {
        return None;
    }
    let states: Vec<_> = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes).collect();
    let state = match states.as_slice() {
        [] => None,
        all => HeaderValue::from_bytes(&all.join(&b","[..])).ok(),
    };
    Some(SpanContext { trace, span, parent: None, sampled, shared: false, remote: true, state })
}

/// Writes the context of a span.
pub(super) fn inject(context: &SpanContext, headers: &mut HeaderMap) {
    let SpanContext { trace, span, sampled, state, .. } = context;
    let text = format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(*sampled));
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TRACEPARENT, value);
    }
    // An empty one is sent, too, as Envoy does.
    let empty = HeaderValue::from_static("");
    headers.insert(TRACESTATE, state.clone().unwrap_or(empty));
}

/// A lower-case hexadecimal number of so many digits.
pub(super) fn hex<T: TryFrom<u128>>(text: &str, digits: usize) -> Option<T> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(lower) {
        return None;
    }
    T::try_from(u128::from_str_radix(text, 16).ok()?).ok()
}
