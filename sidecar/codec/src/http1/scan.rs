//! Finding the end of a head without reading a byte twice.

use memchr::memchr;

/// A line that does not end with CR LF.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BareLineFeed;

/// How far a head that is still arriving has been looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    at: usize,
    /// Where the current line begins.
    line: usize,
    /// Whether a line that is not empty was seen.
    begun: bool,
}

impl Scan {
    /// For fields that no line precedes: trailers.
    pub(super) fn of_fields() -> Self {
        Self { begun: true, ..Self::default() }
    }

    /// Looks for the empty line that ends a head; gives the length of the head with it. `strict`:
    /// every line has to end with CR LF (RFC 9112, 2.2, leaves that to the recipient).
    pub(super) fn end(
        &mut self,
        bytes: &[u8],
        strict: bool,
    ) -> Result<Option<usize>, BareLineFeed> {
        while let Some(found) = memchr(b'\n', &bytes[self.at..]) {
            let at = self.at + found;
            let returned = at > self.line && bytes[at - 1] == b'\r';
            if strict && !returned {
                return Err(BareLineFeed);
            }
            let empty = at - self.line == usize::from(returned);
            self.at = at + 1;
            self.line = at + 1;
            // Empty lines before the first one are passed over (RFC 9112, 2.2).
            if empty && self.begun {
                return Ok(Some(at + 1));
            }
            self.begun |= !empty;
        }
        self.at = bytes.len();
        Ok(None)
    }

    /// Whether a whole line of the head was seen.
    pub(super) fn has_line(&self) -> bool {
        self.begun
    }

    /// Whether anything of the head was looked at.
    pub(super) fn has_begun(&self) -> bool {
        self.at > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_however_the_head_arrives() {
        let head = b"\r\nGET / HTTP/1.1\r\na: b\r\n\r\n";
        for split in 0..head.len() {
            let mut scan = Scan::default();
            assert_eq!(scan.end(&head[..split], true), Ok(None), "{split}");
            assert_eq!(scan.end(head, true), Ok(Some(head.len())), "{split}");
        }
    }

    #[test]
    fn a_bare_line_feed_ends_a_line_only_where_it_may() {
        let head = b"HTTP/1.1 200 OK\nb: c\n\n";
        assert_eq!(Scan::default().end(head, false), Ok(Some(head.len())));
        assert_eq!(Scan::default().end(head, true), Err(BareLineFeed));
    }
}
