//! What a TLS session says, in the words that filters and access logs use.

use bytes::Bytes;
use weft_filter_api::{PeerFacts, TlsFacts};
use weft_spiffe::SubjectAltName;
use weft_tls::{PeerCertificate, ServerStream, ServerTls, TlsVersion};

/// The facts of a session that the proxy accepted with this configuration.
pub(crate) fn tls_facts<IO>(stream: &ServerStream<IO>, tls: &ServerTls) -> TlsFacts {
    let handshake = stream.handshake();
    TlsFacts {
        alpn: handshake.alpn.clone().map(Bytes::from),
        version: match handshake.version {
            Some(TlsVersion::V1_2) => "TLSv1.2",
            Some(TlsVersion::V1_3) => "TLSv1.3",
            None => "",
        },
        cipher: handshake.cipher.to_owned(),
        peer: handshake.peer.as_deref().map(peer_facts),
        local_uri_sans: tls.uri_sans().to_vec(),
    }
}

fn peer_facts(peer: &PeerCertificate) -> PeerFacts {
    let chain = peer.chain().iter().map(|der| Bytes::copy_from_slice(der)).collect();
    let mut facts = PeerFacts { chain, digest: peer.sha256().to_owned(), ..PeerFacts::default() };
    let Some(details) = peer.details() else { return facts };
    facts.subject.clone_from(&details.subject);
    for name in &details.names {
        match name {
            SubjectAltName::Uri(name) => facts.uri_sans.push(name.clone()),
            SubjectAltName::Dns(name) => facts.dns_sans.push(name.clone()),
            SubjectAltName::Ip(_) | SubjectAltName::Email(_) => {}
        }
    }
    facts
}
