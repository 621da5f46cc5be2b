//! The Huffman code for strings (RFC 7541, 5.2 and appendix B).
//!
//! The code is canonical: symbols of the same length follow each other, and so do the lengths.
//! All it takes to decode is how long each symbol's code is.

use std::sync::LazyLock;

/// The length of each byte's code, bits. The end of a string has a code too, the last of 30 bits,
/// that must not occur.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const LONGEST: usize = 30;

static CODE: LazyLock<Code> = LazyLock::new(Code::new);

struct Code {
    /// By the next eight bits: the symbol and its length, where that is not longer.
    short: [(u8, u8); 256],
    /// For each length: the first code that is longer, moved to the left of 32 bits.
    limits: [u32; LONGEST + 1],
    /// For each length: what to add to a code to get its place among `symbols`.
    offsets: [i64; LONGEST + 1],
    symbols: Vec<u8>,
}

impl Code {
    fn new() -> Self {
        let mut symbols: Vec<u8> = (0..=255).collect();
        symbols.sort_by_key(|symbol| (LENGTHS[usize::from(*symbol)], *symbol));
        let mut code = Self {
            short: [(0, 0); 256],
            limits: [0; LONGEST + 1],
            offsets: [0; LONGEST + 1],
            symbols,
        };
        let (mut next, mut place) = (0u32, 0);
        for length in 1..=LONGEST {
            next <<= 1;
            code.offsets[length] = place as i64 - i64::from(next);
            while code
                .symbols
                .get(place)
                .is_some_and(|s| usize::from(LENGTHS[usize::from(*s)]) == length)
            {
                if length <= 8 {
                    let first = (next << (8 - length)) as usize;
                    let entry = (code.symbols[place], length as u8);
                    code.short[first..first + (1 << (8 - length))].fill(entry);
                }
                next += 1;
                place += 1;
            }
            code.limits[length] = next << (32 - length);
        }
        code
    }
}

/// Appends what `bytes` stand for; `None`: they are no code.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let code = &*CODE;
    let mut bits = 0u64;
    let mut have = 0u32;
    let mut input = bytes.iter();
    loop {
        while have <= 56 {
            let Some(byte) = input.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            have += 8;
        }
        if have < 8 {
            break;
        }
        let (symbol, length) = code.short[(bits >> (have - 8)) as u8 as usize];
        if length != 0 {
            out.push(symbol);
            have -= u32::from(length);
        } else if !long(code, bits, &mut have, out)? {
            break;
        }
    }
    if have >= 8 {
        return None;
    }
    // What is left may be one more short symbol, then padding: less than a byte of ones.
    while have > 0 {
        let next = (bits << (8 - have)) as u8 | 0xff >> have;
        let (symbol, length) = code.short[usize::from(next)];
        if length == 0 || u32::from(length) > have {
            break;
        }
        out.push(symbol);
        have -= u32::from(length);
    }
    let ones = (1 << have) - 1;
    (bits & ones == ones).then_some(())
}

/// Takes a symbol of more than eight bits; whether there was a whole one.
fn long(code: &Code, bits: u64, have: &mut u32, out: &mut Vec<u8>) -> Option<bool> {
    let window =
        if *have >= 32 { (bits >> (*have - 32)) as u32 } else { (bits << (32 - *have)) as u32 };
    let length = (9..=LONGEST).find(|length| window < code.limits[*length])?;
    if length as u32 > *have {
        return Some(false);
    }
    let place = i64::from(window >> (32 - length)) + code.offsets[length];
    out.push(*code.symbols.get(usize::try_from(place).ok()?)?);
    *have -= length as u32;
    Some(true)
}
