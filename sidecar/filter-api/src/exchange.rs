//! What both ends of a TCP connection tell each other before its first byte (Istio's metadata
//! exchange).

use bytes::Bytes;
use weft_telemetry::Counter;

/// The exchange as one side takes part in it, where the ALPN name was agreed on.
#[derive(Debug)]
pub struct PeerExchange {
    /// The ALPN name.
    pub protocol: Vec<u8>,
    /// What is sent before the connection's own bytes.
    pub preface: Bytes,
    /// Reads the peer's preface.
    pub read: fn(&[u8]) -> Preface,
    /// What became of exchanges.
    pub stats: ExchangeStats,
}

/// `metadata_exchange.*`
#[derive(Clone, Debug)]
pub struct ExchangeStats {
    /// `alpn_protocol_found`
    pub protocol_found: Counter,
    /// `alpn_protocol_not_found`
    pub protocol_not_found: Counter,
    /// `initial_header_not_found`: the peer sent something else.
    pub no_header: Counter,
    /// `header_not_found`: what the peer sent could not be read.
    pub malformed: Counter,
    /// `metadata_added`: prefaces sent.
    pub sent: Counter,
}

/// What the first bytes of a peer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preface {
    /// It can't be told yet.
    More,
    /// Not a preface: bytes of the connection itself.
    Absent,
    /// A preface that is not to be understood: its bytes are passed on from this one.
    Malformed(usize),
    /// A preface.
    Whole {
        /// How long it is, bytes.
        length: usize,
        /// What the peer says of itself, Base64 of an encoded `Struct`; empty: nothing.
        metadata: Vec<u8>,
    },
}
