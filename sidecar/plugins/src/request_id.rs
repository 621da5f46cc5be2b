//! `request-id`: a name for every request, told to the upstream and the client.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::response::Parts as ResponseHead;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::definition::{Context, Definition, decode};
use crate::exchange::{Answer, Exchange};
use crate::plugin::{Plugin, Step};

pub(crate) const DEFINITION: Definition = Definition::new(
    "request-id",
    12015,
    r#"{
        "type": "object",
        "properties": {
            "header_name": {"type": "string", "default": "X-Request-Id"},
            "include_in_response": {"type": "boolean", "default": true},
            "algorithm": {
                "type": "string",
                "enum": ["uuid", "nanoid", "range_id", "ksuid", "uuidv7"],
                "default": "uuid"
            },
            "range_id": {
                "type": "object",
                "properties": {
                    "length": {"type": "integer", "minimum": 6, "default": 16},
                    "char_set": {
                        "type": "string", "minLength": 6,
                        "default": "abcdefghijklmnopqrstuvwxyzABCDEFGHIGKLMNOPQRSTUVWXYZ0123456789"
                    }
                },
                "default": {
                    "length": 16,
                    "char_set": "abcdefghijklmnopqrstuvwxyzABCDEFGHIGKLMNOPQRSTUVWXYZ0123456789"
                }
            }
        }
    }"#,
    compile,
);

const NANOID: &[u8; 64] = b"-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Seconds from 1970 to the epoch of KSUIDs.
const KSUID_EPOCH: u64 = 1_400_000_000;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[derive(Debug)]
struct RequestId {
    header: HeaderName,
    in_response: bool,
    algorithm: Algorithm,
}

#[derive(Debug)]
enum Algorithm {
    Uuid4,
    Uuid7,
    Nanoid,
    Ksuid,
    Range { length: usize, characters: Vec<u8> },
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        header_name: String,
        include_in_response: bool,
        algorithm: String,
        range_id: Range,
    }
    #[derive(Deserialize)]
    struct Range {
        length: usize,
        char_set: String,
    }
    let raw: Raw = decode(settings)?;
    let header = raw.header_name.parse();
    Ok(Arc::new(RequestId {
        header: header.map_err(|_| format!("invalid header name: {}", raw.header_name))?,
        in_response: raw.include_in_response,
        algorithm: match raw.algorithm.as_str() {
            "uuidv7" => Algorithm::Uuid7,
            "nanoid" => Algorithm::Nanoid,
            "ksuid" => Algorithm::Ksuid,
            "range_id" => Algorithm::Range {
                length: raw.range_id.length,
                characters: raw.range_id.char_set.into_bytes(),
            },
            _ => Algorithm::Uuid4,
        },
    }))
}

impl Plugin for RequestId {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        let known = exchange.head.headers.get(&self.header).filter(|value| !value.is_empty());
        let id = match known {
            Some(id) => id.clone(),
            None => {
                let id = HeaderValue::from_str(&self.algorithm.make());
                let Ok(id) = id else { return Step::Continue };
                exchange.head.headers.insert(&self.header, id.clone());
                id
            }
        };
        if self.in_response {
            exchange.keep(id);
        }
        Step::Continue
    }

    fn header_filter(&self, answer: &mut Answer<'_>, head: &mut ResponseHead) {
        let there = head.headers.get(&self.header).is_some_and(|value| !value.is_empty());
        if let Some(id) = answer.kept::<HeaderValue>().filter(|_| !there) {
            head.headers.insert(&self.header, id.clone());
        }
    }
}

impl Algorithm {
    fn make(&self) -> String {
        match self {
            Self::Uuid4 => Uuid::new_v4().to_string(),
            Self::Uuid7 => uuid7(),
            Self::Nanoid => pick(NANOID, 21),
            Self::Ksuid => ksuid(),
            Self::Range { length, characters } => pick(characters, *length),
        }
    }
}

fn pick(characters: &[u8], length: usize) -> String {
    let one = || fastrand::choice(characters).copied().unwrap_or(b'0');
    let bytes: Vec<u8> = std::iter::repeat_with(one).take(length).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// RFC 9562, 5.7: milliseconds, then chance.
fn uuid7() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = now.as_millis() & 0xffff_ffff_ffff;
    let chance = fastrand::u128(..) & ((1 << 80) - 1);
    let plain = (millis << 80) | chance;
    let version = (plain & !(0xf << 76)) | (0x7 << 76);
    Uuid::from_u128((version & !(0x3 << 62)) | (0x2 << 62)).to_string()
}

/// 32 bits of seconds and 128 of chance, in 27 digits of base 62.
fn ksuid() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = u32::try_from(now.as_secs().saturating_sub(KSUID_EPOCH)).unwrap_or(u32::MAX);
    let mut number = [0u8; 20];
    number[..4].copy_from_slice(&seconds.to_be_bytes());
    number[4..].copy_from_slice(&fastrand::u128(..).to_be_bytes());
    let mut digits = [0u8; 27];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = (rest << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        *digit = BASE62[rest as usize];
    }
    String::from_utf8_lossy(&digits).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn a_request_without_a_name_gets_one_and_the_client_is_told() {
        for (algorithm, length) in
            [("uuid", 36), ("uuidv7", 36), ("nanoid", 21), ("ksuid", 27), ("range_id", 16)]
        {
            let mut outcome =
                Case::new("request-id", json!({"algorithm": algorithm})).get("/").run();
            outcome.passes();
            let id = outcome.header("x-request-id").expect("a name").to_owned();
            assert_eq!(id.len(), length, "{id}");
            assert_eq!(outcome.respond(200).header("x-request-id"), Some(id.as_str()));
        }
    }

    #[test]
    fn the_client_s_own_name_is_kept() {
        let settings = json!({"header_name": "X-Name", "include_in_response": false});
        let mut outcome = Case::new("request-id", settings).get("/").header("x-name", "mine").run();
        assert_eq!(outcome.header("x-name"), Some("mine"));
        assert_eq!(outcome.respond(200).header("x-name"), None);
    }

    #[test]
    fn a_uuid_of_version_7_says_so() {
        let id = super::uuid7();
        assert_eq!(&id[14..15], "7");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
    }
}
