//! TLS configurations: certificates, verification by name, ALPN.
//!
//! Plain-data specifications ([`ServerTlsSpec`], [`ClientTlsSpec`]) are built once per change into
//! [`ServerTls`] and [`ClientTls`], which hold the rustls configurations, the session caches and the
//! ticket keys; a connection only borrows them. A peer is believed for its chain, its pinned hashes
//! and its subject alternative names, never for a DNS host name that nobody asked for.

mod buffers;
mod client;
mod credential;
mod error;
mod handshake;
mod peer;
mod pem;
mod provider;
mod records;
mod resolver;
mod san;
mod server;
mod stream;
#[cfg(test)]
mod tests;
mod validation;
mod verified;
mod verifier;

pub use client::{ClientStream, ClientTls, ClientTlsSpec};
pub use credential::{CertifiedChain, TrustBundle};
pub use error::{SpecError, TlsError, VerifyError};
pub use peer::{Handshake, PeerCertificate, peer};
pub use pem::certificate_pem;
pub use provider::TlsVersion;
pub use san::{SanKind, SanMatcher, SanPattern};
pub use server::{ServerStream, ServerTls, ServerTlsSpec};
pub use stream::TlsStream;
pub use validation::ValidationSpec;

/// The ALPN name of Istio's TCP metadata exchange. Whoever selects it owes its peer a preface in
/// the byte stream that Weft doesn't speak, so it is neither offered nor selected.
pub const ISTIO_PEER_EXCHANGE: &[u8] = b"istio-peer-exchange";

/// A protocol list without [`ISTIO_PEER_EXCHANGE`].
fn usable_alpn(protocols: &[Vec<u8>]) -> Vec<Vec<u8>> {
    protocols.iter().filter(|protocol| *protocol != ISTIO_PEER_EXCHANGE).cloned().collect()
}

/// The README, so that its example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
