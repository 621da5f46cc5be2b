//! Header compression (HPACK, RFC 7541).

mod decoder;
mod encoder;
mod field;
mod huffman;
mod integer;
#[cfg(test)]
mod tests;

pub(super) use decoder::Decoder;
pub(super) use encoder::Encoder;
pub(super) use field::Field;

/// The size of a dynamic table that both ends begin with, bytes (RFC 7541, 4.2 and RFC 9113, 6.5.2).
pub(super) const TABLE_SIZE: usize = 4096;
/// What an entry counts beside its name and value (RFC 7541, 4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;
/// Entries of the static table; the dynamic one follows.
const STATIC_ENTRIES: usize = 61;
