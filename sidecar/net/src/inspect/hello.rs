//! Reading the ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3; RFC 7301).

use std::sync::Arc;

use smallvec::SmallVec;
use thiserror::Error;

/// What a ClientHello says that filter chains are chosen by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name (SNI), lower case.
    pub server_name: Option<Arc<str>>,
    /// The ALPN names in the client's order; those that are not UTF-8 are left out.
    pub protocols: SmallVec<[Arc<str>; 2]>,
}

/// Why bytes are not a ClientHello.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HelloError {
    /// They do not begin as TLS does.
    #[error("not TLS")]
    NotTls,
    /// They begin as TLS does but go on otherwise.
    #[error("a malformed ClientHello")]
    Malformed,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;

/// Reads a ClientHello that may be split over several TLS records; `None`: more bytes are needed.
///
/// # Errors
/// The bytes are something else.
pub fn parse_client_hello(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    let mut message: SmallVec<[u8; 1024]> = SmallVec::new();
    let mut rest = bytes;
    loop {
        let Some((record, after)) = next_record(rest)? else { return Ok(None) };
        message.extend_from_slice(record.content);
        if let Some(body) = whole_message(&message)? {
            return read_hello(body).map(Some).ok_or(HelloError::Malformed);
        }
        if !record.complete {
            return Ok(None);
        }
        rest = after;
    }
}

struct Record<'a> {
    content: &'a [u8],
    complete: bool,
}

/// The next record, or the part of it that is there; `None`: not even its header is.
fn next_record(bytes: &[u8]) -> Result<Option<(Record<'_>, &[u8])>, HelloError> {
    match bytes {
        [] => Ok(None),
        [kind, ..] if *kind != HANDSHAKE => Err(HelloError::NotTls),
        [_, major, ..] if *major != 3 => Err(HelloError::NotTls),
        [_, _, minor, ..] if *minor > 4 => Err(HelloError::NotTls),
        [_, _, _, high, low, after @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if length == 0 || length > 16_640 {
                return Err(HelloError::Malformed);
            }
            let there = after.len().min(length);
            let record = Record { content: &after[..there], complete: there == length };
            Ok(Some((record, &after[there..])))
        }
        _ => Ok(None),
    }
}

/// The body of the handshake message, once all of it is there.
fn whole_message(message: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    match message {
        [kind, ..] if *kind != CLIENT_HELLO => Err(HelloError::Malformed),
        [_, a, b, c, body @ ..] => {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            Ok(body.get(..length))
        }
        _ => Ok(None),
    }
}

/// Reads forward through a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector with a length of one byte before it.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// A vector with a length of two bytes before it.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

fn read_hello(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(body);
    // Version and random.
    reader.take(2 + 32)?;
    let _session = reader.short()?;
    let _suites = reader.long()?;
    let _compression = reader.short()?;
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(reader.long()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.long()?;
        match kind {
            EXTENSION_SERVER_NAME => hello.server_name = server_name(content)?,
            EXTENSION_ALPN => hello.protocols = protocols(content)?,
            _ => {}
        }
    }
    Some(hello)
}

/// The first host name of the list; an outer `None` means malformed.
#[allow(clippy::option_option)]
fn server_name(content: &[u8]) -> Option<Option<Arc<str>>> {
    let mut names = Reader(Reader(content).long()?);
    while !names.0.is_empty() {
        let kind = names.u8()?;
        let name = names.long()?;
        if kind == 0 {
            let name = std::str::from_utf8(name).ok()?;
            return Some(Some(name.to_ascii_lowercase().into()));
        }
    }
    Some(None)
}

fn protocols(content: &[u8]) -> Option<SmallVec<[Arc<str>; 2]>> {
    let mut names = Reader(Reader(content).long()?);
    let mut all = SmallVec::new();
    while !names.0.is_empty() {
        if let Ok(name) = std::str::from_utf8(names.short()?) {
            all.push(name.into());
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello with these extensions, in records of `chunk` bytes.
    fn hello(extensions: &[(u16, Vec<u8>)], chunk: usize) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        let mut all = Vec::new();
        for (kind, content) in extensions {
            all.extend(kind.to_be_bytes());
            all.extend((content.len() as u16).to_be_bytes());
            all.extend(content);
        }
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        let mut message = vec![CLIENT_HELLO];
        message.extend(&(body.len() as u32).to_be_bytes()[1..]);
        message.extend(body);
        let mut out = Vec::new();
        for part in message.chunks(chunk) {
            out.extend([HANDSHAKE, 3, 1]);
            out.extend((part.len() as u16).to_be_bytes());
            out.extend(part);
        }
        out
    }

    fn example(chunk: usize) -> Vec<u8> {
        let name = b"\x00\x10\x00\x00\x0dWww.Example.A".to_vec();
        let alpn = b"\x00\x0c\x02h2\x08http/1.1".to_vec();
        hello(&[(0, name), (43, vec![2, 3, 4]), (16, alpn)], chunk)
    }

    #[test]
    fn name_and_protocols_are_read() {
        let hello = parse_client_hello(&example(4096)).unwrap().unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("www.example.a"));
        let protocols: Vec<_> = hello.protocols.iter().map(|name| &**name).collect();
        assert_eq!(protocols, ["h2", "http/1.1"]);
    }

    #[test]
    fn a_hello_in_several_records_is_read() {
        for chunk in [1, 3, 17, 64] {
            let hello = parse_client_hello(&example(chunk)).unwrap().unwrap();
            assert_eq!(hello.server_name.as_deref(), Some("www.example.a"));
        }
    }

    #[test]
    fn every_beginning_of_a_hello_asks_for_more() {
        for bytes in [example(4096), example(10)] {
            for end in 0..bytes.len() {
                assert_eq!(parse_client_hello(&bytes[..end]), Ok(None), "{end} bytes");
            }
        }
    }

    #[test]
    fn other_protocols_are_recognised_by_their_first_bytes() {
        assert_eq!(parse_client_hello(b"GET / HTTP/1.1\r\n"), Err(HelloError::NotTls));
        assert_eq!(parse_client_hello(b"\x16\x02"), Err(HelloError::NotTls));
        assert_eq!(parse_client_hello(b"\x16\x03\x01\x00\x01\x02"), Err(HelloError::Malformed));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>, at in 0usize..200, with: u8) {
            let _ = parse_client_hello(&bytes);
            bytes.splice(..0, [22, 3, 1]);
            let _ = parse_client_hello(&bytes);
            let mut hello = example(4096);
            let at = at % hello.len();
            hello[at] = with;
            let _ = parse_client_hello(&hello);
        }
    }
}
