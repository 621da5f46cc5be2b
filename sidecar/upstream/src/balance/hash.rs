//! The functions that place endpoints on a ring.

use xxhash_rust::xxh64::xxh64;

/// Hashes a key.
pub(super) type HashFunction = fn(&[u8]) -> u64;

/// `XX_HASH`, or `MURMUR_HASH_2`.
pub(super) fn function(murmur: bool) -> HashFunction {
    if murmur { |bytes| murmur2(bytes, SEED) } else { |bytes| xxh64(bytes, 0) }
}

/// The seed of libstdc++'s `std::hash`, which Envoy is compatible with.
const SEED: u64 = 0xc70f_6907;

/// MurmurHash2, 64 bits, for 64-bit machines (Austin Appleby; public domain).
fn murmur2(bytes: &[u8], seed: u64) -> u64 {
    const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        let mut word = u64::from_le_bytes(word).wrapping_mul(MULTIPLIER);
        word = (word ^ (word >> 47)).wrapping_mul(MULTIPLIER);
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ (hash >> 47)).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 47)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur_gives_what_libstdcxx_gives() {
        // std::hash<std::string> of GCC on x86-64.
        assert_eq!(murmur2(b"", SEED), 6_142_509_188_972_423_790);
        assert_eq!(murmur2(b"a", SEED), 4_993_892_634_952_068_459);
    }
}
