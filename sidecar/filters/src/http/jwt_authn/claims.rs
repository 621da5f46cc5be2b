//! What a request is told of its token.

use http::request::Parts as RequestHead;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// `JwtClaimToHeader`
#[derive(Debug)]
pub(super) struct ClaimToHeader {
    pub(super) header: HeaderName,
    /// `claim_name`, split at its dots.
    pub(super) path: Vec<String>,
}

impl ClaimToHeader {
    /// Adds the header, where the claim is there: strings, numbers and truth values as they are,
    /// lists and objects as Base64url of their JSON.
    pub(super) fn apply(&self, payload: &Map<String, Value>, head: &mut RequestHead) {
        let Some(claim) = find(payload, &self.path) else { return };
        let text = match claim {
            Value::String(text) => text.clone(),
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => match (number.as_u64(), number.as_f64()) {
                (Some(whole), _) => whole.to_string(),
                (None, Some(number)) => format!("{number:.6}"),
                (None, None) => return,
            },
            Value::Array(_) | Value::Object(_) => encode(claim.to_string().as_bytes()),
            Value::Null => return,
        };
        if let Ok(value) = HeaderValue::try_from(text) {
            head.headers.append(&self.header, value);
        }
    }
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn find<'a>(payload: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(payload.get(first)?, |value, step| value.as_object()?.get(step))
}

/// The payload with these claims as lists of their words (`space_delimited_claims`).
pub(super) fn normalised(payload: &Map<String, Value>, spaced: &[String]) -> Map<String, Value> {
    let mut payload = payload.clone();
    for claim in spaced {
        if let Some(Value::String(words)) = payload.get(claim) {
            let words = words.split(' ').filter(|word| !word.is_empty());
            let words = words.map(|word| Value::String(word.to_owned())).collect();
            payload.insert(claim.clone(), Value::Array(words));
        }
    }
    payload
}
