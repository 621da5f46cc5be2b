//! What is known about a downstream connection once it is accepted.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use weft_telemetry::{Annotations, LogRecord};

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
    /// What network filters said about the connection; allocated at the first use.
    pub annotations: Option<Box<Annotations>>,
    /// What the client's PROXY header said besides addresses.
    pub tlvs: Option<Arc<[Tlv]>>,
    /// Connections to upstreams come from the client's address (`original_src`).
    pub keep_source: Option<KeepSource>,
    /// What network filters keep for as long as the connection is served (a place in a count); each
    /// is dropped at its end.
    pub kept: Vec<Arc<dyn Any + Send + Sync>>,
}

/// One value of a PROXY header of version 2 (type, length, value).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlv {
    /// Its type.
    pub kind: u8,
    /// Its value.
    pub value: Bytes,
}

/// `listener.original_src.v3.OriginalSrc`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepSource {
    /// `bind_port`: the port, too.
    pub port: bool,
    /// `mark`: `SO_MARK` of upstream connections; 0: none.
    pub mark: u32,
}

impl ConnectionFacts {
    /// What network filters say about the connection, to change.
    pub fn annotate(&mut self) -> &mut Annotations {
        self.annotations.get_or_insert_default()
    }

    /// What an access log can print about the connection.
    #[must_use]
    pub fn record(&self) -> LogRecord<'_> {
        let tls = self.tls.as_ref();
        let peer = tls.and_then(|tls| tls.peer.as_ref());
        LogRecord {
            server_name: self.server_name.as_deref(),
            peer_uri_sans: peer.map_or(&[], |peer| &peer.uri_sans),
            peer_dns_sans: peer.map_or(&[], |peer| &peer.dns_sans),
            peer_subject: peer.map(|peer| peer.subject.as_str()),
            peer_digest: peer.map(|peer| peer.digest.as_str()),
            local_uri_sans: tls.map_or(&[], |tls| &tls.local_uri_sans),
            tls_version: tls.map(|tls| tls.version),
            tls_cipher: tls.map(|tls| tls.cipher.as_str()),
            connection_id: self.id,
            annotations: [None, self.annotations.as_deref()],
            ..LogRecord::new(self.accepted, self.remote, self.local)
        }
    }
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
