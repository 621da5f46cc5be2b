//! Bodies on their way in, by any framing.

use bytes::BytesMut;

use super::chunks::{Chunks, Decoded, Wrong};
use super::framing::Framing;

/// What is left of a body that arrives.
#[derive(Debug)]
pub(super) enum Decoder {
    /// Nothing.
    Done,
    /// This many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All until the peer ends the connection.
    UntilEnd,
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunks::new()),
            Framing::UntilEnd => Self::UntilEnd,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Done => true,
            Self::Chunked(chunks) => chunks.is_done(),
            Self::Length(_) | Self::UntilEnd => false,
        }
    }

    /// The length that is left, where it is known.
    pub(super) fn exact(&self) -> Option<u64> {
        match self {
            Self::Done => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilEnd => None,
        }
    }

    /// How much the next read should have room for, bytes.
    pub(super) fn expected(&self) -> usize {
        let left = match self {
            Self::Done | Self::UntilEnd => 0,
            Self::Length(left) => *left,
            Self::Chunked(chunks) => chunks.left(),
        };
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Takes from the buffer what belongs to the body.
    pub(super) fn decode(&mut self, bytes: &mut BytesMut) -> Result<Decoded, Wrong> {
        match self {
            Self::Done => Ok(Decoded::End),
            Self::Chunked(chunks) => chunks.decode(bytes),
            Self::Length(_) | Self::UntilEnd if bytes.is_empty() => Ok(Decoded::More),
            Self::UntilEnd => Ok(Decoded::Data(bytes.split().freeze())),
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Decoded::Data(bytes.split_to(count).freeze()))
            }
        }
    }

    /// The peer has ended its side: whether the body is whole.
    pub(super) fn end(&mut self) -> bool {
        if matches!(self, Self::UntilEnd) {
            *self = Self::Done;
        }
        self.is_done()
    }
}
