//! Certificates with their keys, and the roots that are trusted.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor, UnixTime};
use weft_spiffe::CertificateDetails;

use crate::error::{SpecError, VerifyError};
use crate::pem;
use crate::provider::default_provider;
use crate::validation::{PeerPolicy, PeerRole};

/// A certificate chain, leaf first, with the leaf's private key. Cheap to clone.
///
/// An expired certificate is not an error here: it may be all there is until the next one comes.
#[derive(Clone)]
pub struct CertifiedChain(Arc<Inner>);

struct Inner {
    key: Arc<CertifiedKey>,
    leaf: CertificateDetails,
}

impl CertifiedChain {
    /// Reads chain and key from PEM texts.
    ///
    /// # Errors
    /// [`SpecError`] naming the PEM block that is broken or missing, or [`SpecError::KeyMismatch`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, SpecError> {
        Self::from_der(pem::certificates("certificate chain", chain)?, pem::private_key(key)?)
    }

    /// Takes a DER encoded chain, leaf first, and key.
    ///
    /// # Errors
    /// [`SpecError`] naming the certificate that is broken, or [`SpecError::KeyMismatch`].
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, SpecError> {
        let mut details = parse_all("certificate chain", &chain)?;
        if details.is_empty() {
            return Err(SpecError::NoServerCertificate);
        }
        let leaf = details.swap_remove(0);
        let key = CertifiedKey::from_der(chain, key, default_provider()).map_err(|error| {
            if matches!(error, rustls::Error::InconsistentKeys(_)) {
                SpecError::KeyMismatch { subject: display_name(&leaf) }
            } else {
                SpecError::PrivateKey { reason: error.to_string() }
            }
        })?;
        Ok(Self(Arc::new(Inner { key: Arc::new(key), leaf })))
    }

    /// The chain, leaf first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.key.cert
    }

    /// What the leaf says.
    pub fn leaf(&self) -> &CertificateDetails {
        &self.0.leaf
    }

    pub(crate) fn key(&self) -> &Arc<CertifiedKey> {
        &self.0.key
    }
}

impl fmt::Debug for CertifiedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertifiedChain({})", display_name(self.leaf()))
    }
}

/// Two are equal when their certificates are: a certificate belongs to one key.
impl PartialEq for CertifiedChain {
    fn eq(&self, other: &Self) -> bool {
        self.certificates() == other.certificates()
    }
}

impl Eq for CertifiedChain {}

/// The roots that are trusted. Cheap to clone.
#[derive(Clone)]
pub struct TrustBundle(Arc<Roots>);

struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl TrustBundle {
    /// Reads one or several roots from a PEM text.
    ///
    /// # Errors
    /// [`SpecError`] naming the block that is broken; a text without certificates.
    pub fn from_pem(roots: &[u8]) -> Result<Self, SpecError> {
        Self::from_der(pem::certificates("trusted roots", roots)?)
    }

    /// Takes DER encoded roots. An intermediate may be trusted too: a chain may end there.
    ///
    /// # Errors
    /// [`SpecError::Certificate`] naming the root that is broken.
    pub fn from_der(roots: Vec<CertificateDer<'static>>) -> Result<Self, SpecError> {
        let anchors = roots
            .iter()
            .enumerate()
            .map(|(index, der)| {
                webpki::anchor_from_trusted_cert(der).map(|anchor| anchor.to_owned()).map_err(
                    |error| SpecError::Certificate {
                        what: "trusted roots",
                        number: index + 1,
                        reason: format!("{error:?}"),
                    },
                )
            })
            .collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Roots { certificates: roots, anchors })))
    }

    /// The roots, DER encoded.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.certificates
    }

    /// Whether one of the roots vouches for a chain, leaf first, for use as client and as server.
    ///
    /// # Errors
    /// [`VerifyError`] saying why not.
    pub fn vouch_for(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<(), VerifyError> {
        let policy = PeerPolicy::trusting(self.clone());
        let (leaf, intermediates) = chain.split_first().ok_or(VerifyError::UntrustedIssuer)?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(now);
        [PeerRole::Client, PeerRole::Server]
            .into_iter()
            .try_for_each(|role| policy.check((leaf, intermediates), None, now, role))
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.0.anchors
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustBundle({} roots)", self.0.certificates.len())
    }
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.0.certificates == other.0.certificates
    }
}

impl Eq for TrustBundle {}

fn parse_all(
    what: &'static str,
    chain: &[CertificateDer<'static>],
) -> Result<Vec<CertificateDetails>, SpecError> {
    chain
        .iter()
        .enumerate()
        .map(|(index, der)| {
            CertificateDetails::from_der(der).map_err(|error| SpecError::Certificate {
                what,
                number: index + 1,
                reason: error.reason,
            })
        })
        .collect()
}

fn display_name(leaf: &CertificateDetails) -> String {
    match leaf.names.first() {
        Some(name) if leaf.subject.is_empty() => name.to_string(),
        _ => leaf.subject.clone(),
    }
}
