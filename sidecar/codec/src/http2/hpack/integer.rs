//! Integers with a prefix of some bits (RFC 7541, 5.1).

/// Writes `value`; the first byte has the upper bits of `pattern`.
pub(super) fn write(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let limit = (1usize << bits) - 1;
    if value < limit {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | limit as u8);
    let mut rest = value - limit;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads one, of which `first` is the first byte and `rest` what follows; `None`: it breaks off or
/// is absurdly large.
pub(super) fn read(first: u8, rest: &mut &[u8], bits: u32) -> Option<usize> {
    let limit = (1u8 << bits).wrapping_sub(1);
    let mut value = usize::from(first & limit);
    if value < usize::from(limit) {
        return Some(value);
    }
    for shift in [0u32, 7, 14, 21] {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value += usize::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(value);
        }
    }
    None
}
