//! Finding the end of a head without reading a byte twice.

use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;

/// The end of a head whose lines all end with CR LF.
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

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
        if let Some(end) = self.at_once(bytes) {
            return Ok(Some(end));
        }
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

    /// The end of a head that is there whole and has no line that others would end elsewhere.
    fn at_once(&self, bytes: &[u8]) -> Option<usize> {
        if self.at > 0 || bytes.first().is_none_or(|first| matches!(first, b'\r' | b'\n')) {
            return None;
        }
        let end = END.find(bytes)? + 4;
        let head = &bytes[..end];
        let pairs = head.iter().zip(&head[1..]);
        // No early end: so the compiler takes many pairs at a time.
        let bare = pairs
            .fold(false, |bare, (before, byte)| bare | ((*byte == b'\n') & (*before != b'\r')));
        (!bare).then_some(end)
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
        let with_body = b"HTTP/1.1 200 OK\nb: c\n\nbody\r\n\r\n";
        assert_eq!(Scan::default().end(with_body, false), Ok(Some(head.len())));
        let mixed = b"GET / HTTP/1.1\r\nb: c\nd: e\r\n\r\n";
        assert_eq!(Scan::default().end(mixed, true), Err(BareLineFeed));
        assert_eq!(Scan::default().end(mixed, false), Ok(Some(mixed.len())));
    }

    #[test]
    fn a_head_ends_before_what_follows_it() {
        let two = b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\n";
        assert_eq!(Scan::default().end(two, true), Ok(Some(18)));
        assert_eq!(Scan::of_fields().end(b"\r\nGET / HTTP/1.1\r\n\r\n", true), Ok(Some(2)));
    }
}
