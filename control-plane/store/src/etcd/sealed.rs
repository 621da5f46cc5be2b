//! Private keys as APISIX keeps them in etcd: AES in CBC mode, in base64.
//!
//! They are opened when they are read. APISIX takes a key that is not sealed
//! as it is, so that what is written here needs no sealing.

use aws_lc_rs::cipher::{
    AES_128, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

/// Only values with one of these are looked into.
const SEALED_FIELDS: [&str; 2] = ["/tls/client_key", "/upstream/tls/client_key"];
/// How every key in PEM begins.
const PEM: &str = "---";

/// Keys that may have sealed what is in etcd (`apisix.data_encryption.keyring`).
#[derive(Debug)]
pub(super) struct Keyring(Vec<Opener>);

#[derive(Debug)]
struct Opener {
    key: PaddedBlockDecryptingKey,
    start: [u8; 16],
}

impl Keyring {
    /// # Errors
    /// A key that is not 16 or 32 bytes long.
    pub(super) fn new(keys: &[String]) -> Result<Self, String> {
        let openers = keys.iter().map(|key| opener(key.as_bytes()));
        let unfit = || "a key of the keyring is not 16 or 32 bytes long".to_owned();
        openers.collect::<Option<_>>().map(Self).ok_or_else(unfit)
    }

    /// The value under `key` with its private keys open, as far as they can be.
    pub(super) fn open(&self, key: &str, value: Bytes) -> Bytes {
        let is_ssl = key.starts_with("/apisix/ssls/");
        let may_be_sealed = is_ssl || contains(&value, b"\"client_key\"");
        if !may_be_sealed {
            return value;
        }
        let Ok(mut json) = serde_json::from_slice::<Value>(&value) else { return value };
        let mut opened = false;
        if is_ssl {
            opened |= json.get_mut("key").is_some_and(|field| self.open_field(field));
            let more = json.get_mut("keys").and_then(Value::as_array_mut);
            for field in more.into_iter().flatten() {
                opened |= self.open_field(field);
            }
        }
        for path in SEALED_FIELDS {
            opened |= json.pointer_mut(path).is_some_and(|field| self.open_field(field));
        }
        if opened { json.to_string().into() } else { value }
    }

    fn open_field(&self, field: &mut Value) -> bool {
        let sealed = field.as_str().filter(|text| !text.starts_with(PEM));
        let Some(sealed) = sealed.and_then(|text| STANDARD.decode(text).ok()) else {
            return false;
        };
        let plain = self.0.iter().find_map(|opener| opener.open(&sealed));
        match plain {
            Some(plain) => {
                *field = plain.into();
                true
            }
            None => false,
        }
    }
}

impl Opener {
    fn open(&self, sealed: &[u8]) -> Option<String> {
        let mut bytes = sealed.to_vec();
        let context = DecryptionContext::Iv128(FixedLength::from(self.start));
        let plain = self.key.decrypt(&mut bytes, context).ok()?;
        // Another key's padding may fit by chance; its text doesn't.
        std::str::from_utf8(plain).ok().filter(|text| text.starts_with(PEM)).map(str::to_owned)
    }
}

/// APISIX starts the chain with the key itself.
fn opener(key: &[u8]) -> Option<Opener> {
    let algorithm = match key.len() {
        16 => &AES_128,
        32 => &AES_256,
        _ => return None,
    };
    let start = key.get(..16)?.try_into().ok()?;
    let key = UnboundCipherKey::new(algorithm, key).ok()?;
    Some(Opener { key: PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?, start })
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::cipher::{EncryptionContext, PaddedBlockEncryptingKey};
    use serde_json::json;

    use super::*;

    const OLD: &str = "edd1c9f0985e76a2";
    const NEW: &str = "0123456789abcdef0123456789abcdef";

    fn seal(key: &str, text: &str) -> String {
        let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
        let unbound = UnboundCipherKey::new(algorithm, key.as_bytes()).expect("a key");
        let sealing = PaddedBlockEncryptingKey::cbc_pkcs7(unbound).expect("a cipher");
        let start: [u8; 16] = key.as_bytes()[..16].try_into().expect("16 bytes");
        let mut bytes = text.as_bytes().to_vec();
        let context = EncryptionContext::Iv128(FixedLength::from(start));
        sealing.less_safe_encrypt(&mut bytes, context).expect("sealed");
        STANDARD.encode(bytes)
    }

    fn opened(key: &str, value: &Value) -> Value {
        let ring = Keyring::new(&[NEW.to_owned(), OLD.to_owned()]).expect("keys");
        serde_json::from_slice(&ring.open(key, value.to_string().into())).expect("JSON")
    }

    #[test]
    fn keys_are_opened_whichever_key_sealed_them() {
        let pem = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n";
        let ssl = json!({"cert": "c", "key": seal(OLD, pem), "keys": [seal(NEW, pem), pem]});
        let plain = json!({"cert": "c", "key": pem, "keys": [pem, pem]});
        assert_eq!(opened("/apisix/ssls/1", &ssl), plain);
        let route = |key: &str| json!({"uri": "/a", "upstream": {"tls": {"client_key": key}}});
        assert_eq!(opened("/apisix/routes/1", &route(&seal(OLD, pem))), route(pem));
        let upstream = |key: &str| json!({"tls": {"client_key": key}});
        assert_eq!(opened("/apisix/upstreams/1", &upstream(&seal(NEW, pem))), upstream(pem));
    }

    #[test]
    fn what_is_not_sealed_or_by_another_key_stays() {
        let other = seal("fedcba9876543210", "-----BEGIN");
        for key in ["-----BEGIN", "$secret://vault/1/a", "no base64!", other.as_str()] {
            let ssl = json!({ "key": key });
            assert_eq!(opened("/apisix/ssls/1", &ssl), ssl);
        }
        assert!(Keyring::new(&["short".to_owned()]).is_err());
    }
}
