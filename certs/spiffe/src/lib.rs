//! SPIFFE identities and X.509 SVIDs.
//!
//! Pure: parses and formats identities, and reads what a certificate says about its holder. Whether
//! a certificate may be believed is decided in `weft-tls`.

mod certificate;
mod id;

pub use certificate::{CertificateDetails, CertificateError, SubjectAltName, SvidError, svid_id};
pub use id::{IdError, SpiffeId, TrustDomain, WorkloadName};

/// Who is at the other end of a connection, as a server's TLS layer proved it.
///
/// Servers put it into a request's extensions; services read it from there. The absence of an id
/// means that the caller showed no certificate, or one without a SPIFFE identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The peer's verified SPIFFE id, such as `spiffe://cluster.local/ns/default/sa/web`.
    pub spiffe_id: Option<String>,
}

/// The README, so that its example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
