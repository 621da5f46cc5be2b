//! How endpoints are spoken to: in the clear or over TLS, and what is said before.

use std::collections::BTreeMap;

use weft_filter_api::Tlv;
use weft_tls::ClientTls;

use crate::Slot;

/// A transport socket for endpoints with certain labels (`Cluster.transport_socket_matches`).
#[derive(Debug)]
pub struct SocketMatch {
    /// `name`
    pub name: String,
    /// `match`; empty matches all.
    pub labels: BTreeMap<String, String>,
    /// The socket.
    pub socket: UpstreamSocket,
}

/// How an endpoint is spoken to.
#[derive(Clone, Debug)]
pub enum UpstreamSocket {
    /// In the clear.
    Raw,
    /// Over TLS; the slot is empty until the secrets are there.
    Tls(Slot<ClientTls>),
    /// Either, after a header that tells of the client (`upstream_proxy_protocol`).
    Proxied(Box<ProxiedSocket>),
}

/// A socket whose bytes begin with a PROXY header.
#[derive(Clone, Debug)]
pub struct ProxiedSocket {
    /// What the header says.
    pub header: ProxyHeader,
    /// What follows.
    pub inner: UpstreamSocket,
}

/// `core.v3.ProxyProtocolConfig`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// `version`
    pub version: ProxyVersion,
    /// `added_tlvs`
    pub added: Vec<Tlv>,
    /// `pass_through_tlvs`: what is passed on of the client's own header.
    pub pass: PassTlvs,
}

/// `ProxyProtocolConfig.version`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// `ProxyProtocolPassThroughTLVs`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassTlvs {
    /// Nothing.
    None,
    /// `INCLUDE_ALL`
    All,
    /// `INCLUDE`: these types.
    Some(Vec<u8>),
}

impl PassTlvs {
    /// Whether a type is passed on.
    #[must_use]
    pub fn includes(&self, kind: u8) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(kinds) => kinds.contains(&kind),
        }
    }
}

impl UpstreamSocket {
    /// The TLS configuration, where it is spoken.
    #[must_use]
    pub fn tls(&self) -> Option<&Slot<ClientTls>> {
        match self {
            Self::Raw => None,
            Self::Tls(slot) => Some(slot),
            Self::Proxied(socket) => socket.inner.tls(),
        }
    }

    /// The header that its bytes begin with.
    #[must_use]
    pub fn header(&self) -> Option<&ProxyHeader> {
        match self {
            Self::Raw | Self::Tls(_) => None,
            Self::Proxied(socket) => Some(&socket.header),
        }
    }

    /// Whether connections made over the one may be used for the other.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        let same_tls = match (self.tls(), other.tls()) {
            (None, None) => true,
            (Some(own), Some(other)) => own.same_as(other),
            _ => false,
        };
        same_tls && self.header() == other.header()
    }
}
