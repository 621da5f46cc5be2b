//! `jwt-auth`: a JSON web token (RFC 7519) says who asks.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::HeaderName;
use http::header::{COOKIE, WWW_AUTHENTICATE};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::{self, Denied};
use crate::consumers::Credential;
use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};
use crate::variables;

pub(crate) const DEFINITION: Definition = Definition::new(
    "jwt-auth",
    2510,
    r#"{
        "type": "object",
        "properties": {
            "header": {"type": "string", "default": "authorization"},
            "query": {"type": "string", "default": "jwt"},
            "cookie": {"type": "string", "default": "jwt"},
            "hide_credentials": {"type": "boolean", "default": false},
            "key_claim_name": {"type": "string", "minLength": 1, "default": "key"},
            "store_in_ctx": {"type": "boolean", "default": false},
            "realm": {"type": "string", "pattern": "^[^\"\\\\]+$", "default": "jwt"},
            "anonymous_consumer": {"type": "string", "minLength": 1},
            "claims_to_verify": {
                "type": "array", "uniqueItems": true,
                "items": {"type": "string", "enum": ["exp", "nbf"]}
            }
        }
    }"#,
    compile,
)
.with_consumers(
    r#"{
        "type": "object",
        "properties": {
            "key": {"type": "string", "minLength": 1},
            "secret": {"type": "string", "minLength": 1},
            "public_key": {"type": "string", "minLength": 1},
            "algorithm": {
                "type": "string",
                "enum": [
                    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384",
                    "PS256", "PS384", "PS512", "EdDSA"
                ],
                "default": "HS256"
            },
            "exp": {"type": "integer", "minimum": 1, "default": 86400},
            "base64_secret": {"type": "boolean", "default": false},
            "lifetime_grace_period": {"type": "integer", "minimum": 0, "default": 0}
        },
        "required": ["key"]
    }"#,
    "key",
)
.with_consumer_check(check_consumer);

#[derive(Debug, Deserialize)]
struct JwtAuth {
    header: String,
    query: String,
    cookie: String,
    hide_credentials: bool,
    key_claim_name: String,
    realm: String,
    anonymous_consumer: Option<String>,
    claims_to_verify: Option<Vec<String>>,
}

/// A consumer's key, ready to verify.
struct Verifier {
    algorithm: Algorithm,
    key: DecodingKey,
    /// Seconds.
    grace: i64,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A symmetric key is a secret.
        f.debug_struct("Verifier").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A token's parts.
struct Token<'a> {
    signed: &'a str,
    signature: &'a str,
    algorithm: Value,
    claims: Value,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(decode::<JwtAuth>(settings)?))
}

fn check_consumer(settings: &Value) -> Result<(), String> {
    let symmetric = settings["algorithm"].as_str().is_some_and(|name| name.starts_with("HS"));
    let secret = settings["secret"].as_str();
    if symmetric && secret.is_none() {
        return Err("property \"secret\" is required when using HS based algorithms".into());
    }
    let is_plain = |secret: &&str| !crate::secret::is_reference(secret);
    if settings["base64_secret"] == true
        && secret.filter(is_plain).is_some_and(|secret| BASE64_STANDARD.decode(secret).is_err())
    {
        return Err("base64_secret required but the secret is not in base64 format".into());
    }
    if !symmetric && !settings["public_key"].is_string() {
        return Err("property \"public_key\" is required".into());
    }
    Ok(())
}

impl Verifier {
    fn new(settings: &Value) -> Option<Self> {
        let algorithm: Algorithm = settings["algorithm"].as_str()?.parse().ok()?;
        let text = |name: &str| settings[name].as_str();
        let pem = || text("public_key").map(str::as_bytes);
        let key = match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                let secret = text("secret")?;
                if settings["base64_secret"] == true {
                    DecodingKey::from_secret(&BASE64_STANDARD.decode(secret).ok()?)
                } else {
                    DecodingKey::from_secret(secret.as_bytes())
                }
            }
            Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(pem()?).ok()?,
            Algorithm::EdDSA => DecodingKey::from_ed_pem(pem()?).ok()?,
            _ => DecodingKey::from_rsa_pem(pem()?).ok()?,
        };
        let grace = settings["lifetime_grace_period"].as_i64().unwrap_or(0);
        Some(Self { algorithm, key, grace })
    }

    fn verifies(&self, token: &Token<'_>, claims: Option<&[String]>) -> bool {
        let expected = format!("{:?}", self.algorithm);
        let good = token.algorithm == expected.as_str()
            && jsonwebtoken::crypto::verify(
                token.signature,
                token.signed.as_bytes(),
                &self.key,
                self.algorithm,
            )
            .unwrap_or(false);
        let wants = |claim: &str| claims.is_none_or(|all| all.iter().any(|name| name == claim));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let holds = |name: &str, test: &dyn Fn(f64) -> bool| {
            let claim = &token.claims[name];
            !wants(name) || claim.is_null() || claim.as_f64().is_some_and(test)
        };
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
        let (early, late) = ((now - self.grace) as f64, (now + self.grace) as f64);
        good && holds("exp", &|time| time > early) && holds("nbf", &|time| time <= late)
    }
}

impl<'a> Token<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| -> Option<Value> {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let header = json(header)?;
        Some(Self { signed, signature, algorithm: header["alg"].clone(), claims: json(claims)? })
    }
}

impl Plugin for JwtAuth {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        match self.find(exchange) {
            Ok(credential) => {
                exchange.attach(&credential);
                Step::Continue
            }
            Err(denied) => auth::deny(exchange, self.anonymous_consumer.as_deref(), denied, || {
                (WWW_AUTHENTICATE, format!("Bearer realm=\"{}\"", self.realm))
            }),
        }
    }
}

impl JwtAuth {
    fn find(&self, exchange: &mut Exchange<'_>) -> Result<Arc<Credential>, Denied> {
        let token = self.fetch(exchange).ok_or(Denied::new("Missing JWT token in request"))?;
        let token = Token::read(&token).ok_or(Denied::new("JWT token invalid"))?;
        let key = token.claims[self.key_claim_name.as_str()].as_str();
        let key = key.ok_or(Denied::new("missing user key in JWT token"))?;
        let consumers = exchange.consumers();
        let found = consumers.as_ref().and_then(|all| all.find("jwt-auth", key));
        let credential = found.ok_or(Denied::new("Invalid user key in JWT token"))?;
        let claims = self.claims_to_verify.as_deref();
        let verifier: Option<&Verifier> = credential.prepared(Verifier::new);
        if verifier.is_some_and(|verifier| verifier.verifies(&token, claims)) {
            return Ok(Arc::clone(credential));
        }
        Err(Denied::new("failed to verify jwt"))
    }

    /// The token, from header, query or cookie.
    fn fetch(&self, exchange: &mut Exchange<'_>) -> Option<String> {
        if let Some(shown) = exchange.header(&self.header) {
            let bearer = shown.strip_prefix("Bearer ").or_else(|| shown.strip_prefix("bearer "));
            let token = bearer.unwrap_or(shown).to_owned();
            if let (true, Ok(name)) = (self.hide_credentials, self.header.parse::<HeaderName>()) {
                exchange.head.headers.remove(name);
            }
            return Some(token);
        }
        let query = exchange.head.uri.query();
        if let Some(token) = query.and_then(|query| variables::argument(query, &self.query)) {
            let token = token.into_owned();
            if self.hide_credentials {
                exchange.remove_query_parameter(&self.query);
            }
            return Some(token);
        }
        let token = variables::cookie(&exchange.head.headers, &self.cookie)?.to_owned();
        if self.hide_credentials {
            self.hide_cookie(exchange);
        }
        Some(token)
    }

    fn hide_cookie(&self, exchange: &mut Exchange<'_>) {
        let Some(cookies) = exchange.header("cookie") else { return };
        let is_other =
            |pair: &&str| pair.split_once('=').is_none_or(|(name, _)| name.trim() != self.cookie);
        let left: Vec<_> = cookies.split(';').map(str::trim).filter(is_other).collect();
        let left = left.join("; ");
        if left.is_empty() {
            exchange.head.headers.remove(COOKIE);
        } else {
            exchange.set_header(&COOKIE, &left);
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use serde_json::{Value, json};

    use crate::testing::Case;

    const SECRET: &str = "a secret of thirty-two characters";

    #[expect(clippy::needless_pass_by_value, reason = "callers write it down in place")]
    fn token(algorithm: Algorithm, secret: &str, claims: Value) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).expect("a token")
    }

    fn case(settings: Value) -> Case {
        let auth = json!({"jwt-auth": {"key": "user-key", "secret": SECRET}});
        Case::new("jwt-auth", settings)
            .consumers(json!({"consumers": [{"username": "jack", "plugins": auth}]}))
    }

    #[test]
    fn a_good_token_lets_in_from_header_query_or_cookie() {
        let token =
            token(Algorithm::HS256, SECRET, json!({"key": "user-key", "exp": 4_000_000_000_u64}));
        let hide = json!({"hide_credentials": true});
        let outcome =
            case(hide.clone()).get("/").header("authorization", &format!("Bearer {token}")).run();
        outcome.passes();
        assert_eq!(outcome.header("x-consumer-username"), Some("jack"));
        assert_eq!(outcome.header("authorization"), None);
        let outcome = case(hide.clone()).get(&format!("/a?jwt={token}&b=1")).run();
        outcome.passes();
        assert_eq!(outcome.uri(), "/a?b=1");
        let outcome = case(hide).get("/").header("cookie", &format!("a=b; jwt={token}")).run();
        outcome.passes();
        assert_eq!(outcome.header("cookie"), Some("a=b"));
    }

    #[test]
    fn other_tokens_are_refused_with_the_reason() {
        let reply = case(json!({})).get("/").run().replies(401);
        assert_eq!(reply.text(), "{\"message\":\"Missing JWT token in request\"}\n");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"jwt\""));
        let mine = json!({"key": "user-key"});
        let old = json!({"key": "user-key", "exp": 1});
        let early = json!({"key": "user-key", "nbf": 4_000_000_000_u64});
        for (token, message) in [
            ("nonsense".to_owned(), "JWT token invalid"),
            (token(Algorithm::HS256, SECRET, json!({})), "missing user key in JWT token"),
            (token(Algorithm::HS256, SECRET, json!({"key": "x"})), "Invalid user key in JWT token"),
            (token(Algorithm::HS256, "another", mine.clone()), "failed to verify jwt"),
            (token(Algorithm::HS384, SECRET, mine), "failed to verify jwt"),
            (token(Algorithm::HS256, SECRET, old.clone()), "failed to verify jwt"),
            (token(Algorithm::HS256, SECRET, early), "failed to verify jwt"),
        ] {
            let reply = case(json!({})).get("/").header("authorization", &token).run().replies(401);
            assert_eq!(reply.text(), format!("{{\"message\":\"{message}\"}}\n"));
        }
        let old = token(Algorithm::HS256, SECRET, old);
        case(json!({"claims_to_verify": ["nbf"]})).get(&format!("/?jwt={old}")).run().passes();
    }

    #[test]
    fn a_consumer_needs_a_key_for_its_algorithm() {
        for (settings, error) in [
            (json!({"key": "k"}), "property \"secret\" is required when using HS based algorithms"),
            (json!({"key": "k", "algorithm": "RS256"}), "property \"public_key\" is required"),
            (
                json!({"key": "k", "secret": "~", "base64_secret": true}),
                "base64_secret required but the secret is not in base64 format",
            ),
        ] {
            let checked = crate::check_consumer("jwt-auth", &settings);
            assert_eq!(checked, Some(Err(error.to_owned())), "{settings}");
        }
    }
}
