//! What is known about a downstream connection once it is accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

/// The facts of one downstream connection; shared by all its streams.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// A number that no other connection of this process has.
    pub id: u64,
    /// The client's address: of the socket, or from the PROXY protocol.
    pub remote: SocketAddr,
    /// The address that the client connected to: the original destination where there is one.
    pub local: SocketAddr,
    /// Whether [`Self::local`] was restored from an interception.
    pub restored: bool,
    /// When the connection was accepted.
    pub accepted: SystemTime,
    /// The application protocols that the peer offered or showed (`http/1.1`, `h2c`, ALPN names).
    pub application_protocols: Vec<Arc<str>>,
    /// The requested server name (SNI), lower case.
    pub server_name: Option<Arc<str>>,
    /// The TLS session, where the proxy terminates one.
    pub tls: Option<Arc<TlsFacts>>,
}

/// A TLS session terminated by the proxy.
#[derive(Clone, Debug, Default)]
pub struct TlsFacts {
    /// The negotiated ALPN name.
    pub alpn: Option<Bytes>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: String,
    /// The client's certificate, if it showed one.
    pub peer: Option<PeerFacts>,
    /// URI SANs of the certificate that the proxy showed.
    pub local_uri_sans: Vec<String>,
}

/// What a verified client certificate says.
#[derive(Clone, Debug, Default)]
pub struct PeerFacts {
    /// Certificates, leaf first, DER.
    pub chain: Vec<Bytes>,
    /// URI SANs of the leaf; a SPIFFE identity is the only one of its certificate.
    pub uri_sans: Vec<String>,
    /// DNS SANs of the leaf.
    pub dns_sans: Vec<String>,
    /// The subject of the leaf (RFC 2253).
    pub subject: String,
    /// SHA-256 of the leaf, lower-case hexadecimal.
    pub digest: String,
}
