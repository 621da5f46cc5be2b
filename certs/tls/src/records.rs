//! The record layer of an established connection (RFC 8446 section 5, RFC 5246 section 6.2).
//!
//! rustls does the handshake and keeps the secrets; from then on records are opened straight into
//! the reader's buffer and sealed straight into the one that is written. rustls itself would copy
//! each byte twice more each way, allocate for each record and read 4 KiB at a time.

mod incoming;
mod key;
mod outgoing;

pub(crate) use incoming::{Incoming, Message, Next};
pub(crate) use key::RecordKey;
pub(crate) use outgoing::Outgoing;

/// Bytes of a record's header: content type, version, length.
const HEADER: usize = 5;
/// Most bytes of content in one record.
const MAX_CONTENT: usize = 1 << 14;

/// What a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Alert,
    Handshake,
    Data,
}

impl Content {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::Data),
            _ => None,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
        }
    }
}
