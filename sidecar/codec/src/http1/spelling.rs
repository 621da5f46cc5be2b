//! How header names are spelled: names are kept in lower case, and some peers mind.

use bytes::Bytes;
use http::HeaderName;

/// How the names of headers are written (`header_key_format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spelling {
    /// In lower case.
    #[default]
    Lower,
    /// Every word begins with a capital letter (`proper_case_words`).
    Title,
    /// As the message had them that is passed on (`preserve_case`); added ones in lower case.
    Preserved,
}

/// How a message that arrived spelled its names, in its extensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Spelled(Vec<(HeaderName, Bytes)>);

impl Spelled {
    /// Remembers a name, unless it is in lower case.
    pub(super) fn remember(&mut self, name: &HeaderName, spelled: Bytes) {
        if spelled != name.as_str() {
            self.0.push((name.clone(), spelled));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes the `nth` field of a name, counted from zero.
    fn write(&self, out: &mut Vec<u8>, name: &HeaderName, nth: usize) {
        let mut all = self.0.iter().filter(|(known, _)| known == name);
        match all.nth(nth) {
            Some((_, spelled)) => out.extend_from_slice(spelled),
            None => out.extend_from_slice(name.as_str().as_bytes()),
        }
    }
}

/// Writes names one after the other.
pub(super) struct Speller<'a> {
    spelling: Spelling,
    spelled: Option<&'a Spelled>,
    last: Option<&'a HeaderName>,
    nth: usize,
}

impl<'a> Speller<'a> {
    pub(super) fn new(spelling: Spelling, extensions: &'a http::Extensions) -> Self {
        let spelled = match spelling {
            Spelling::Preserved => extensions.get::<Spelled>(),
            Spelling::Lower | Spelling::Title => None,
        };
        Self { spelling, spelled, last: None, nth: 0 }
    }

    pub(super) fn write(&mut self, out: &mut Vec<u8>, name: &'a HeaderName) {
        match (self.spelling, self.spelled) {
            (Spelling::Title, _) => write_title(out, name.as_str()),
            (Spelling::Preserved, Some(spelled)) => {
                // Fields of one name follow each other.
                self.nth = if self.last == Some(name) { self.nth + 1 } else { 0 };
                self.last = Some(name);
                spelled.write(out, name, self.nth);
            }
            _ => out.extend_from_slice(name.as_str().as_bytes()),
        }
    }
}

fn write_title(out: &mut Vec<u8>, name: &str) {
    let mut begins = true;
    for byte in name.bytes() {
        out.push(if begins { byte.to_ascii_uppercase() } else { byte });
        begins = byte == b'-';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(spelling: Spelling, spelled: Option<Spelled>, names: &[HeaderName]) -> String {
        let mut extensions = http::Extensions::new();
        if let Some(spelled) = spelled {
            extensions.insert(spelled);
        }
        let mut speller = Speller::new(spelling, &extensions);
        let mut out = Vec::new();
        for name in names {
            speller.write(&mut out, name);
            out.push(b' ');
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_spelled_as_asked_for() {
        let names = ["x-a-id", "host", "x-a-id"].map(HeaderName::from_static);
        assert_eq!(write(Spelling::Lower, None, &names), "x-a-id host x-a-id ");
        assert_eq!(write(Spelling::Title, None, &names), "X-A-Id Host X-A-Id ");
        let mut spelled = Spelled::default();
        spelled.remember(&names[0], Bytes::from_static(b"X-a-ID"));
        spelled.remember(&names[1], Bytes::from_static(b"host"));
        assert_eq!(write(Spelling::Preserved, Some(spelled), &names), "X-a-ID host X-a-ID ");
    }
}
