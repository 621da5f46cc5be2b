//! Packing messages into `google.protobuf.Any` and getting them out again by type.

use prost::{Message, Name};

use crate::Any;

/// Why an `Any` could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnyError {
    /// It holds another message than the place asks for.
    #[error("expected {expected}, found {found:?}")]
    WrongType {
        /// Full name of the message wanted.
        expected: String,
        /// Type URL found.
        found: String,
    },
    /// No message of this name is known here.
    #[error("unknown type {type_url:?}")]
    UnknownType {
        /// Type URL found.
        type_url: String,
    },
    /// The bytes are no such message.
    #[error("malformed {type_url}: {source}")]
    Malformed {
        /// Type URL found.
        type_url: String,
        /// What the decoder says.
        source: prost::DecodeError,
    },
}

/// The message name in a type URL: what follows the last `/`.
#[must_use]
pub fn type_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

/// Whether `any` holds an `M`, by its type URL alone.
#[must_use]
pub fn is<M: Name>(any: &Any) -> bool {
    type_name(&any.type_url) == M::full_name()
}

/// Packs `message` under `type.googleapis.com/<full name>`.
#[must_use]
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{}", M::full_name()),
        value: message.encode_to_vec(),
    }
}

/// Gets an `M` out of `any`. The prefix of the type URL does not matter, the name does.
///
/// # Errors
/// [`AnyError::WrongType`] when it holds another message, [`AnyError::Malformed`] when the bytes
/// do not decode.
pub fn unpack<M: Message + Name + Default>(any: &Any) -> Result<M, AnyError> {
    if !is::<M>(any) {
        return Err(AnyError::WrongType { expected: M::full_name(), found: any.type_url.clone() });
    }
    M::decode(any.value.as_slice())
        .map_err(|source| AnyError::Malformed { type_url: any.type_url.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::envoy::config::{cluster::v3::Cluster, listener::v3::Listener};

    #[test]
    fn a_packed_message_is_unpacked_under_any_prefix() {
        let cluster = Cluster { name: "a".into(), ..Default::default() };
        let mut any = pack(&cluster);
        assert_eq!(any.type_url, "type.googleapis.com/envoy.config.cluster.v3.Cluster");
        assert_eq!(unpack::<Cluster>(&any).unwrap(), cluster);
        any.type_url = "envoy.config.cluster.v3.Cluster".into();
        assert_eq!(unpack::<Cluster>(&any).unwrap(), cluster);
    }

    #[test]
    fn another_type_and_broken_bytes_are_told_apart() {
        let any = pack(&Cluster::default());
        assert!(matches!(unpack::<Listener>(&any), Err(AnyError::WrongType { .. })));
        let broken = Any { value: vec![0xff], ..any };
        assert!(matches!(unpack::<Cluster>(&broken), Err(AnyError::Malformed { .. })));
    }
}
