//! `hmac-auth`: a signature over parts of the request says who asks.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::auth::{self, Denied};
use crate::consumers::Credential;
use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};

pub(crate) const DEFINITION: Definition = Definition::new(
    "hmac-auth",
    2530,
    r#"{
        "type": "object",
        "properties": {
            "allowed_algorithms": {
                "type": "array", "minItems": 1,
                "items": {"type": "string", "enum": ["hmac-sha1", "hmac-sha256", "hmac-sha512"]},
                "default": ["hmac-sha1", "hmac-sha256", "hmac-sha512"]
            },
            "clock_skew": {"type": "integer", "minimum": 1, "default": 300},
            "signed_headers": {
                "type": "array", "default": ["date"],
                "items": {"type": "string", "minLength": 1, "maxLength": 50}
            },
            "validate_request_body": {"type": "boolean", "enum": [false], "default": false},
            "hide_credentials": {"type": "boolean", "default": false},
            "realm": {"type": "string", "pattern": "^[^\"\\\\]+$", "default": "hmac"},
            "anonymous_consumer": {"type": "string", "minLength": 1}
        }
    }"#,
    compile,
)
.with_consumers(
    r#"{
        "type": "object",
        "properties": {
            "key_id": {"type": "string", "minLength": 1, "maxLength": 256},
            "secret_key": {"type": "string", "minLength": 1, "maxLength": 256}
        },
        "required": ["key_id", "secret_key"]
    }"#,
    "key_id",
);

#[derive(Debug, Deserialize)]
struct HmacAuth {
    allowed_algorithms: Vec<String>,
    /// Seconds.
    clock_skew: i64,
    signed_headers: Vec<String>,
    hide_credentials: bool,
    realm: String,
    anonymous_consumer: Option<String>,
}

/// What the header `authorization` says.
#[derive(Debug, Default)]
struct Signature {
    key_id: Option<String>,
    algorithm: Option<String>,
    signature: Option<String>,
    headers: Vec<String>,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(decode::<HmacAuth>(settings)?))
}

impl Plugin for HmacAuth {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        let found = self.find(exchange);
        let step = match found {
            Ok(credential) => {
                exchange.attach(&credential);
                Step::Continue
            }
            Err(denied) => auth::deny(exchange, self.anonymous_consumer.as_deref(), denied, || {
                (WWW_AUTHENTICATE, format!("hmac realm=\"{}\"", self.realm))
            }),
        };
        if self.hide_credentials && matches!(step, Step::Continue) {
            exchange.head.headers.remove(AUTHORIZATION);
        }
        step
    }
}

impl HmacAuth {
    fn find(&self, exchange: &Exchange<'_>) -> Result<Arc<Credential>, Denied> {
        let shown = exchange.header("authorization").ok_or(Denied::new(
            "client request can't be validated: missing Authorization header",
        ))?;
        let fields = shown.strip_prefix("Signature").ok_or(Denied::new(
            "client request can't be validated: \
             Authorization header does not start with 'Signature'",
        ))?;
        self.validate(exchange, &Signature::read(fields))
            .ok_or(Denied::new("client request can't be validated"))
    }

    fn validate(&self, exchange: &Exchange<'_>, shown: &Signature) -> Option<Arc<Credential>> {
        let (key_id, algorithm) = (shown.key_id.as_deref()?, shown.algorithm.as_deref()?);
        let signature = BASE64_STANDARD.decode(shown.signature.as_deref()?).ok()?;
        let consumers = exchange.consumers()?;
        let credential = consumers.find("hmac-auth", key_id)?;
        if !self.allowed_algorithms.iter().any(|known| known == algorithm) {
            return None;
        }
        let date = OffsetDateTime::parse(exchange.header("date")?, &Rfc2822).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).ok()?;
        if (now - date.unix_timestamp()).abs() > self.clock_skew {
            return None;
        }
        if !self.signed_headers.iter().all(|name| shown.headers.contains(name)) {
            return None;
        }
        let secret = credential.settings["secret_key"].as_str()?;
        let key = hmac::Key::new(hash(algorithm)?, secret.as_bytes());
        hmac::verify(&key, signed_text(exchange, key_id, &shown.headers).as_bytes(), &signature)
            .ok()?;
        Some(Arc::clone(credential))
    }
}

fn hash(algorithm: &str) -> Option<hmac::Algorithm> {
    Some(match algorithm {
        "hmac-sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "hmac-sha256" => hmac::HMAC_SHA256,
        "hmac-sha512" => hmac::HMAC_SHA512,
        _ => return None,
    })
}

/// The key's id, then each header, then `@request-target` where it is among them; a line each.
fn signed_text(exchange: &Exchange<'_>, key_id: &str, headers: &[String]) -> String {
    let mut text = format!("{key_id}\n");
    for name in headers {
        if let Some(value) = exchange.header(name) {
            text.push_str(&format!("{name}: {value}\n"));
        } else if name == "@request-target" {
            let uri = exchange.head.uri.path_and_query().map_or("/", |path| path.as_str());
            text.push_str(&format!("{} {uri}\n", exchange.head.method));
        }
    }
    text
}

impl Signature {
    /// `keyId="…",algorithm="…",headers="…",signature="…"`
    fn read(fields: &str) -> Self {
        let mut signature = Self::default();
        for field in fields.split(',') {
            let Some((name, value)) = field.trim().split_once('=') else { continue };
            let value = value.trim_matches('"').to_owned();
            match name {
                "keyId" => signature.key_id = Some(value),
                "algorithm" => signature.algorithm = Some(value),
                "signature" => signature.signature = Some(value),
                "headers" => signature.headers = value.split(' ').map(str::to_owned).collect(),
                _ => {}
            }
        }
        signature
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::{Value, json};
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc2822;

    use crate::testing::Case;

    fn case(settings: Value) -> Case {
        let auth = json!({"hmac-auth": {"key_id": "id", "secret_key": "s"}});
        Case::new("hmac-auth", settings)
            .consumers(json!({"consumers": [{"username": "jack", "plugins": auth}]}))
    }

    fn date() -> String {
        let now = OffsetDateTime::now_utc().format(&Rfc2822).expect("a date");
        now.replace("+0000", "GMT")
    }

    fn sign(secret: &str, text: &str, headers: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        format!(
            "Signature keyId=\"id\",algorithm=\"hmac-sha256\",headers=\"{headers}\",\
             signature=\"{signature}\""
        )
    }

    #[test]
    fn the_right_signature_lets_in() {
        let date = date();
        let text = format!("id\nGET /a?b=1\ndate: {date}\n");
        let shown = sign("s", &text, "@request-target date");
        let outcome = case(json!({"hide_credentials": true}))
            .get("/a?b=1")
            .header("date", &date)
            .header("authorization", &shown)
            .run();
        outcome.passes();
        assert_eq!(outcome.header("x-consumer-username"), Some("jack"));
        assert_eq!(outcome.header("authorization"), None);
    }

    #[test]
    fn everything_else_is_refused() {
        let reply = case(json!({})).get("/").run().replies(401);
        let missing = "client request can't be validated: missing Authorization header";
        assert_eq!(reply.text(), format!("{{\"message\":\"{missing}\"}}\n"));
        assert_eq!(reply.header("www-authenticate"), Some("hmac realm=\"hmac\""));
        let now = date();
        let old = "Mon, 01 Jan 2001 00:00:00 GMT".to_owned();
        for (settings, date, secret, headers) in [
            (json!({}), &now, "wrong", "date"),
            (json!({}), &old, "s", "date"),
            (json!({"allowed_algorithms": ["hmac-sha1"]}), &now, "s", "date"),
            (json!({"signed_headers": ["date", "x-a"]}), &now, "s", "date"),
        ] {
            let shown = sign(secret, &format!("id\ndate: {date}\n"), headers);
            let case = case(settings).get("/").header("date", date);
            let reply = case.header("authorization", &shown).run().replies(401);
            assert_eq!(reply.text(), "{\"message\":\"client request can't be validated\"}\n");
        }
    }
}
