//! What stands around the records of a batch.

use bytes::Bytes;

use super::wire;

/// What stands around the records of a batch.
#[derive(Clone, Debug)]
pub enum Envelope {
    /// A JSON list of records.
    JsonList,
    /// A protobuf message in which the records, encoded fields themselves, are deep inside.
    Protobuf {
        /// The message comes with the prefix of gRPC.
        grpc: bool,
        /// Encoded fields that come first.
        first: Vec<u8>,
        /// The messages around the records, the outermost first: the number of the field that
        /// holds each, and encoded fields that come first in it.
        levels: Vec<(u8, Vec<u8>)>,
    },
}

impl Envelope {
    /// Goes between two records.
    pub(super) fn separate(&self, out: &mut Vec<u8>) {
        if let Self::JsonList = self {
            out.push(b',');
        }
    }

    pub(super) fn is_grpc(&self) -> bool {
        matches!(self, Self::Protobuf { grpc: true, .. })
    }

    /// The whole message.
    pub(super) fn around(&self, records: &[u8]) -> Bytes {
        match self {
            Self::JsonList => [b"[", records, b"]"].concat().into(),
            Self::Protobuf { grpc, first, levels } => {
                let mut inner = records.to_vec();
                for (number, first) in levels.iter().rev() {
                    let content = [first, &inner[..]].concat();
                    inner.clear();
                    wire::bytes(&mut inner, *number, &content);
                }
                let length = first.len() + inner.len();
                let prefix = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
                let prefix = [&[0], &prefix[..]].concat();
                let prefix = if *grpc { &prefix[..] } else { &[] };
                [prefix, first, &inner].concat().into()
            }
        }
    }
}
