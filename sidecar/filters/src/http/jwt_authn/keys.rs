//! Key sets (RFC 7517).

use std::fmt;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{AlgorithmFamily, DecodingKey};
use serde_json::Value;

use super::status::Status;
use super::token::Token;

/// The keys of an issuer.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    /// `alg`; `None`: any of its family.
    algorithm: Option<String>,
    family: AlgorithmFamily,
    key: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A symmetric key is a secret.
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl KeySet {
    /// Reads a set; keys of kinds that are not supported are left out, as in Envoy.
    ///
    /// # Errors
    /// It is no set, or no key of it is of use.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("it has no list named keys")?;
        let keys: Vec<_> = keys.iter().filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err("none of its keys is of use".to_owned());
        }
        Ok(Self(keys))
    }

    /// Whether the signature of a token is by one of the keys.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), Status> {
        if self.0.is_empty() {
            return Err(Status::NoValidKeys);
        }
        let mut tried = false;
        for key in self.0.iter().filter(|key| key.fits(token)) {
            tried = true;
            let good = jsonwebtoken::crypto::verify(
                token.signature,
                token.signed.as_bytes(),
                &key.key,
                token.algorithm,
            );
            if matches!(good, Ok(true)) {
                return Ok(());
            }
        }
        Err(if tried { Status::VerificationFails } else { Status::NoMatchingKey })
    }
}

impl Key {
    fn read(json: &Value) -> Option<Self> {
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        let (id, algorithm) = (text("kid"), text("alg"));
        let jwk: Jwk = serde_json::from_value(json.clone()).ok()?;
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id, algorithm, family: key.family(), key })
    }

    fn fits(&self, token: &Token<'_>) -> bool {
        let named = token.key_id().zip(self.id.as_deref());
        let name = format!("{:?}", token.algorithm);
        named.is_none_or(|(wanted, id)| wanted == id)
            && self.family == token.algorithm.family()
            && self.algorithm.as_deref().is_none_or(|algorithm| algorithm == name)
    }
}
