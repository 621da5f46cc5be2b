//! B3: `x-b3-*`, or all of it in `b3` (github.com/openzipkin/b3-propagation).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::SpanContext;
use super::w3c::hex;

const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// What the headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) context: Option<SpanContext>,
    /// Whether the caller decided, which it may do without a context.
    pub(super) sampled: Option<bool>,
}

pub(super) fn extract(headers: &HeaderMap) -> Told {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(single) = text(SINGLE) {
        return single_header(single);
    }
    let sampled = match (text(FLAGS), text(SAMPLED)) {
        (Some("1"), _) => Some(true),
        (_, Some(sampled)) => Some(sampled == "1" || sampled == "true"),
        _ => None,
    };
    let (Some(trace), Some(span)) = (text(TRACE).and_then(trace), text(SPAN).and_then(span)) else {
        return Told { context: None, sampled };
    };
    let parent = text(PARENT).and_then(self::span);
    Told { context: Some(context(trace, span, parent, sampled)), sampled }
}

/// `trace-span-sampled-parent`, or the decision alone.
fn single_header(text: &str) -> Told {
    let decided = |text: &str| match text {
        "1" | "d" => Some(true),
        "0" => Some(false),
        _ => None,
    };
    let mut parts = text.split('-');
    let first = parts.next().unwrap_or_default();
    let Some(second) = parts.next() else {
        return Told { context: None, sampled: decided(first) };
    };
    let sampled = parts.next().and_then(decided);
    let parent = parts.next().and_then(span);
    match (trace(first), span(second)) {
        (Some(trace), Some(span)) => {
            Told { context: Some(context(trace, span, parent, sampled)), sampled }
        }
        _ => Told { context: None, sampled },
    }
}

fn context(trace: u128, span: u64, parent: Option<u64>, sampled: Option<bool>) -> SpanContext {
    let sampled = sampled.unwrap_or(false);
    SpanContext { trace, span, parent, sampled, shared: false, remote: true, state: None }
}

fn trace(text: &str) -> Option<u128> {
    let text = text.to_ascii_lowercase();
    hex::<u128>(&text, 32).or_else(|| hex::<u128>(&text, 16)).filter(|trace| *trace != 0)
}

fn span(text: &str) -> Option<u64> {
    hex::<u64>(&text.to_ascii_lowercase(), 16).filter(|span| *span != 0)
}

/// Writes the context of a span, in the form in which the caller's came.
pub(super) fn inject(context: &SpanContext, headers: &mut HeaderMap) {
    let trace = trace_text(context.trace);
    let span = format!("{:016x}", context.span);
    let parent = context.parent.map(|parent| format!("{parent:016x}"));
    let sampled = if context.sampled { "1" } else { "0" };
    if headers.contains_key(SINGLE) {
        let parent = parent.map(|parent| format!("-{parent}")).unwrap_or_default();
        if let Ok(value) = HeaderValue::try_from(format!("{trace}-{span}-{sampled}{parent}")) {
            headers.insert(SINGLE, value);
        }
        return;
    }
    for (name, text) in [(TRACE, Some(trace)), (SPAN, Some(span)), (PARENT, parent)] {
        match text.and_then(|text| HeaderValue::try_from(text).ok()) {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
    headers.insert(SAMPLED, HeaderValue::from_static(sampled));
}

/// 16 digits, or 32 where it takes as many.
pub(super) fn trace_text(trace: u128) -> String {
    if trace >> 64 == 0 { format!("{trace:016x}") } else { format!("{trace:032x}") }
}
