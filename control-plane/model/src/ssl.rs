//! Certificates: what the edge shows by SNI, and what upstreams are shown.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::Labels;
use crate::error::{DecodeError, decode};

/// An APISIX `ssl` with its defaults applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssl {
    /// `labels`.
    pub labels: Labels,
    /// `type`: who shows the certificate to whom.
    pub kind: SslType,
    /// `sni` or `snis`, in lower case without a trailing dot, exact, `*` or
    /// with a leading `*.` for one label.
    pub snis: Vec<String>,
    /// `cert` and `key`, then those of `certs` and `keys` in their order.
    pub certificates: Vec<CertificatePair>,
    /// `client`: demands a certificate of the client.
    pub client: Option<ClientVerification>,
    /// `status`; a disabled one is stored and not served.
    pub enabled: bool,
    /// `ssl_protocols`, such as `TLSv1.3`; empty means the default.
    pub ssl_protocols: Vec<String>,
}

/// Who shows the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SslType {
    /// The edge, to its clients.
    #[default]
    Server,
    /// The gateway, to an upstream that names it as `tls.client_cert_id`.
    Client,
}

/// A certificate chain and its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificatePair {
    /// PEM, the leaf first.
    pub cert: String,
    /// PEM.
    pub key: String,
}

impl std::fmt::Debug for CertificatePair {
    /// Leaves the key out, so that it can't reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificatePair").field("cert", &self.cert).finish_non_exhaustive()
    }
}

/// How clients of the edge are verified.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClientVerification {
    /// `ca`, PEM.
    pub ca: String,
    /// `depth`: the most certificates between the client's and the root.
    #[serde(default = "one")]
    pub depth: u32,
    /// `skip_mtls_uri_regex`: paths that need no certificate.
    #[serde(default)]
    pub skip_mtls_uri_regex: Vec<String>,
}

impl Ssl {
    /// Decodes a stored ssl.
    ///
    /// # Errors
    /// A field of a wrong type or value, by its path.
    pub fn from_json(value: &Value) -> Result<Self, DecodeError> {
        decode(value)
    }
}

impl<'de> Deserialize<'de> for Ssl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawSsl::deserialize(deserializer)?.compile().map_err(de::Error::custom)
    }
}

#[derive(Deserialize)]
struct RawSsl {
    #[serde(default)]
    labels: Labels,
    #[serde(rename = "type", default)]
    kind: SslType,
    sni: Option<String>,
    #[serde(default)]
    snis: Vec<String>,
    cert: String,
    key: String,
    #[serde(default)]
    certs: Vec<String>,
    #[serde(default)]
    keys: Vec<String>,
    client: Option<ClientVerification>,
    #[serde(default = "crate::route::enabled")]
    status: u8,
    #[serde(default)]
    ssl_protocols: Vec<String>,
}

impl RawSsl {
    fn compile(self) -> Result<Ssl, DecodeError> {
        if self.certs.len() != self.keys.len() {
            return Err(DecodeError::new("certs", "mismatched number of certs and keys"));
        }
        let further = self.certs.into_iter().zip(self.keys);
        let certificates = std::iter::once((self.cert, self.key)).chain(further);
        let snis = self.sni.into_iter().chain(self.snis);
        Ok(Ssl {
            labels: self.labels,
            kind: self.kind,
            snis: snis.map(|sni| sni.trim_end_matches('.').to_ascii_lowercase()).collect(),
            certificates: certificates.map(|(cert, key)| CertificatePair { cert, key }).collect(),
            client: self.client,
            enabled: self.status == 1,
            ssl_protocols: self.ssl_protocols,
        })
    }
}

fn one() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn further_certificates_pair_with_their_keys() {
        let json =
            json!({"cert": "c", "key": "k", "snis": ["A.com."], "certs": ["d"], "keys": ["l"]});
        let ssl = Ssl::from_json(&json).expect("an ssl");
        assert_eq!(ssl.snis, ["a.com"]);
        assert_eq!((ssl.certificates.len(), ssl.certificates[1].key.as_str()), (2, "l"));
        assert!(!format!("{ssl:?}").contains("\"k\""));
    }

    #[test]
    fn a_certificate_without_key_is_refused() {
        let json = json!({"cert": "c", "key": "k", "sni": "a", "certs": ["d"]});
        assert!(Ssl::from_json(&json).is_err());
    }
}
