//! Tokens with which a workload that has no certificate yet proves who it is.
//!
//! Their form is that of Kubernetes' projected service account tokens, so that callers need not
//! care who issued theirs. They are signed with a key of their own: the authority's key signs
//! nothing but certificates.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use weft_spiffe::{SpiffeId, TrustDomain};

use crate::error::{AuthorityError, TokenError};
use crate::storage::{self, SECRET};

/// The audience of tokens for the signing service.
pub const TOKEN_AUDIENCE: &str = "istio-ca";

const ISSUER: &str = "weft";
const SUBJECT_PREFIX: &str = "system:serviceaccount:";
/// How far the clocks of several control planes may differ, in seconds.
const LEEWAY: u64 = 5;

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Vec<String>,
    iat: u64,
    nbf: u64,
    exp: u64,
}

/// Issues tokens.
pub struct TokenIssuer {
    key: EncodingKey,
    public_key_pem: String,
}

impl TokenIssuer {
    /// Opens the issuer whose key is `token-key.pem` in the folder, making the key at first start.
    ///
    /// # Errors
    /// [`AuthorityError`] naming the file that can't be read, written or used.
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        let path = folder.join("token-key.pem");
        let content = |reason: String| AuthorityError::Content { path: path.clone(), reason };
        let pem = match storage::read(&path)? {
            Some(pem) => pem,
            None => {
                let pair = KeyPair::generate().map_err(|error| AuthorityError::Generate {
                    what: "a token key",
                    reason: error.to_string(),
                })?;
                let pem = pair.serialize_pem();
                storage::write(&path, &pem, SECRET)?;
                pem
            }
        };
        let pair = KeyPair::from_pem(&pem).map_err(|error| content(error.to_string()))?;
        Ok(Self {
            key: EncodingKey::from_ec_pem(pem.as_bytes())
                .map_err(|error| content(error.to_string()))?,
            public_key_pem: pair.public_key_pem(),
        })
    }

    /// A token for a service account, valid from now for `ttl`.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] when it can't be signed.
    pub fn issue(
        &self,
        namespace: &str,
        service_account: &str,
        ttl: Duration,
    ) -> Result<String, TokenError> {
        self.issue_until(namespace, service_account, SystemTime::now() + ttl)
    }

    /// A token for a service account, valid from now until a given time.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] when it can't be signed.
    pub fn issue_until(
        &self,
        namespace: &str,
        service_account: &str,
        until: SystemTime,
    ) -> Result<String, TokenError> {
        let account = format!("{namespace}:{service_account}");
        self.sign(&account, SystemTime::now(), until)
    }

    /// The verifier of this issuer's tokens.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] when the public key can't be used.
    pub fn verifier(&self, trust_domain: TrustDomain) -> Result<TokenVerifier, TokenError> {
        TokenVerifier::new(&self.public_key_pem, trust_domain)
    }

    /// The public key as PEM, for verifiers elsewhere.
    pub fn public_key_pem(&self) -> &str {
        &self.public_key_pem
    }

    fn sign(
        &self,
        account: &str,
        from: SystemTime,
        until: SystemTime,
    ) -> Result<String, TokenError> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: SUBJECT_PREFIX.to_owned() + account,
            aud: vec![TOKEN_AUDIENCE.to_owned()],
            iat: seconds(from),
            nbf: seconds(from),
            exp: seconds(until),
        };
        Ok(encode(&Header::new(Algorithm::ES256), &claims, &self.key)?)
    }
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer").finish_non_exhaustive()
    }
}

/// Verifies tokens of a [`TokenIssuer`].
pub struct TokenVerifier {
    key: DecodingKey,
    validation: Validation,
    trust_domain: TrustDomain,
}

impl TokenVerifier {
    /// Takes the issuer's public key as PEM, and the trust domain of the identities.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] when the key can't be used.
    pub fn new(public_key_pem: &str, trust_domain: TrustDomain) -> Result<Self, TokenError> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[TOKEN_AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        Ok(Self {
            key: DecodingKey::from_ec_pem(public_key_pem.as_bytes())?,
            validation,
            trust_domain,
        })
    }

    /// The identity that a token proves.
    ///
    /// # Errors
    /// [`TokenError`] when signature, audience, issuer or time are wrong, or its subject is no
    /// service account.
    pub fn verify(&self, token: &str) -> Result<SpiffeId, TokenError> {
        let claims = decode::<Claims>(token, &self.key, &self.validation)?.claims;
        let account = claims.sub.strip_prefix(SUBJECT_PREFIX);
        account
            .and_then(|account| account.split_once(':'))
            .and_then(|(namespace, name)| {
                SpiffeId::workload(&self.trust_domain, namespace, name).ok()
            })
            .ok_or(TokenError::Subject { subject: claims.sub })
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier")
            .field("trust_domain", &self.trust_domain)
            .finish_non_exhaustive()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::new("td").unwrap()
    }

    #[test]
    fn token_proves_its_service_account_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let issuer = TokenIssuer::open(folder.path()).unwrap();
        let token = issuer.issue("default", "web", Duration::from_secs(60)).unwrap();
        let again = TokenIssuer::open(folder.path()).unwrap();
        let verifier = again.verifier(domain()).unwrap();
        let id = verifier.verify(&token).unwrap();
        assert_eq!(id.as_str(), "spiffe://td/ns/default/sa/web");
    }

    #[test]
    fn expired_foreign_and_broken_tokens_are_refused() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ours = TokenIssuer::open(here.path()).unwrap();
        let theirs = TokenIssuer::open(there.path()).unwrap();
        let verifier = ours.verifier(domain()).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(600);
        let expired = ours.sign("a:b", long_ago, long_ago + Duration::from_secs(60));
        let error = verifier.verify(&expired.unwrap()).unwrap_err();
        assert!(error.to_string().contains("Expired"), "{error}");
        let foreign = theirs.issue("a", "b", Duration::from_secs(60)).unwrap();
        assert!(verifier.verify(&foreign).is_err());
        assert!(verifier.verify("nonsense").is_err());
        let minute = SystemTime::now() + Duration::from_secs(60);
        let subject = ours.sign("a/b", SystemTime::now(), minute).unwrap();
        assert!(matches!(verifier.verify(&subject), Err(TokenError::Subject { .. })));
    }
}
