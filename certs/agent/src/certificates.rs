//! A workload's certificate with its key and the roots to judge others by.

use std::fmt;
use std::time::SystemTime;

use weft_spiffe::SpiffeId;
use weft_tls::{CertifiedChain, SpecError, TrustBundle};

/// What a workload needs to speak mutual TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct WorkloadCertificates {
    chain_pem: String,
    key_pem: String,
    roots_pem: String,
    credential: CertifiedChain,
    roots: TrustBundle,
    obtained_at: SystemTime,
}

impl WorkloadCertificates {
    /// Takes PEM texts: chain (leaf first), key, trusted roots.
    ///
    /// # Errors
    /// [`SpecError`] naming the text and block that is broken, or that the key doesn't belong.
    pub fn from_pem(
        chain: String,
        key: String,
        roots: String,
        obtained_at: SystemTime,
    ) -> Result<Self, SpecError> {
        Ok(Self {
            credential: CertifiedChain::from_pem(chain.as_bytes(), key.as_bytes())?,
            roots: TrustBundle::from_pem(roots.as_bytes())?,
            chain_pem: chain,
            key_pem: key,
            roots_pem: roots,
            obtained_at,
        })
    }

    /// Chain and key, ready for a TLS specification.
    pub fn credential(&self) -> &CertifiedChain {
        &self.credential
    }

    /// The trusted roots, ready for a TLS specification.
    pub fn roots(&self) -> &TrustBundle {
        &self.roots
    }

    /// The chain as PEM, leaf first.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The private key as PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The trusted roots as PEM.
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// The SPIFFE id, when the leaf is an SVID.
    pub fn spiffe_id(&self) -> Option<SpiffeId> {
        self.credential.leaf().spiffe_id().ok()
    }

    /// When it was issued to us or read.
    pub fn obtained_at(&self) -> SystemTime {
        self.obtained_at
    }

    /// End of the leaf's validity.
    pub fn not_after(&self) -> SystemTime {
        self.credential.leaf().not_after
    }
}

/// Without the key.
impl fmt::Debug for WorkloadCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadCertificates")
            .field("credential", &self.credential)
            .field("roots", &self.roots)
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}
