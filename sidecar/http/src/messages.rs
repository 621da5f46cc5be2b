//! Counts the messages in a gRPC body (gRPC over HTTP/2, Length-Prefixed-Message).

use bytes::Bytes;

/// Flag, length.
const PREFIX: u8 = 5;

/// Where a body stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MessageCounter {
    count: u64,
    /// Bytes of the prefix that have been seen.
    prefix: u8,
    /// Bytes of the message that are still to come; while the prefix is read, what is known of it.
    left: u32,
}

impl MessageCounter {
    /// Messages that have begun.
    pub(crate) fn count(self) -> u64 {
        self.count
    }

    /// The next bytes of the body.
    pub(crate) fn feed(&mut self, data: &Bytes) {
        let mut rest: &[u8] = data;
        while !rest.is_empty() {
            if self.prefix < PREFIX {
                self.prefix_byte(rest[0]);
                rest = &rest[1..];
                continue;
            }
            let taken = rest.len().min(self.left as usize);
            self.left -= u32::try_from(taken).unwrap_or(self.left);
            rest = &rest[taken..];
            if self.left == 0 {
                self.prefix = 0;
            }
        }
    }

    fn prefix_byte(&mut self, byte: u8) {
        if self.prefix == 0 {
            self.count += 1;
            self.left = 0;
        } else {
            self.left = self.left << 8 | u32::from(byte);
        }
        self.prefix += 1;
        if self.prefix == PREFIX && self.left == 0 {
            self.prefix = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_the_body_is_cut() {
        let body = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\x01\0";
        let mut long = body.to_vec();
        long.extend([7; 256]);
        for size in [1, 2, 7, long.len()] {
            let mut counter = MessageCounter::default();
            for piece in long.chunks(size) {
                counter.feed(&Bytes::copy_from_slice(piece));
            }
            assert_eq!((counter.count(), counter.prefix), (3, 0), "in pieces of {size}");
        }
    }
}
