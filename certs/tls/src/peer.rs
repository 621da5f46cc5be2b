//! What a finished handshake says about the connection and its peer.

use std::sync::{Arc, OnceLock};

use rustls::{CommonState, HandshakeKind};
use rustls_pki_types::CertificateDer;
use weft_spiffe::{CertificateDetails, PeerIdentity, SpiffeId};

use crate::provider::{TlsVersion, cipher_name};
use crate::validation::{hexadecimal, sha256};

/// A peer's certificate chain. Names and digest are worked out when first asked for.
#[derive(Debug)]
pub struct PeerCertificate {
    chain: Vec<CertificateDer<'static>>,
    details: OnceLock<Option<CertificateDetails>>,
    spiffe_id: OnceLock<Option<SpiffeId>>,
    digest: OnceLock<String>,
}

impl PeerCertificate {
    /// Takes a chain, leaf first; `None` when it is empty.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        (!chain.is_empty()).then(|| Self {
            chain,
            details: OnceLock::new(),
            spiffe_id: OnceLock::new(),
            digest: OnceLock::new(),
        })
    }

    /// The chain, leaf first, DER encoded.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What the leaf says; `None` when it can't be read (only possible for unverified peers).
    pub fn details(&self) -> Option<&CertificateDetails> {
        self.details.get_or_init(|| CertificateDetails::from_der(&self.chain[0]).ok()).as_ref()
    }

    /// The SPIFFE id, when the leaf is an SVID.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.spiffe_id.get_or_init(|| self.details()?.spiffe_id().ok()).as_ref()
    }

    /// The leaf's SHA-256 digest, lower-case hexadecimal (Envoy's `PEER_FINGERPRINT_256`).
    pub fn sha256(&self) -> &str {
        self.digest.get_or_init(|| hexadecimal(&sha256(&self.chain[0])))
    }

    /// The identity in the form that services take.
    pub fn identity(&self) -> PeerIdentity {
        PeerIdentity { spiffe_id: self.spiffe_id().map(ToString::to_string) }
    }
}

/// The peer's certificate; `None` when it showed none.
pub fn peer(connection: &CommonState) -> Option<Arc<PeerCertificate>> {
    let chain = connection.peer_certificates()?.to_vec();
    PeerCertificate::new(chain).map(Arc::new)
}

/// What was agreed on in a handshake.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// The peer's certificate.
    pub peer: Option<Arc<PeerCertificate>>,
    /// The application protocol.
    pub alpn: Option<Vec<u8>>,
    /// The server name that the client sent; only known to servers.
    pub server_name: Option<String>,
    /// The protocol version.
    pub version: Option<TlsVersion>,
    /// The cipher suite's OpenSSL name.
    pub cipher: &'static str,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl Handshake {
    pub(crate) fn of(connection: &CommonState) -> Self {
        let cipher = connection.negotiated_cipher_suite();
        Self {
            peer: peer(connection),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name: None,
            version: connection.protocol_version().and_then(TlsVersion::from_rustls),
            cipher: cipher.map_or("unknown", |suite| cipher_name(suite.suite())),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}
