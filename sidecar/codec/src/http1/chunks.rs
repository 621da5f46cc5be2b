//! The chunked transfer coding (RFC 9112, 7.1), from bytes to data.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

use super::scan::Scan;
use super::{buffers, names};

/// How long the extensions of all chunks of a body may be together, bytes.
const MAX_EXTENSIONS: u32 = 16 << 10;
/// How long trailers may be, bytes.
const MAX_TRAILERS: usize = 32 << 10;
/// How many trailers there may be.
const MAX_TRAILER_FIELDS: usize = 64;

/// What a look at the bytes gave.
#[derive(Debug)]
pub(super) enum Decoded {
    /// Part of the body.
    Data(Bytes),
    /// What follows the body, which is whole.
    Trailers(HeaderMap),
    /// The body is whole.
    End,
    /// More bytes are needed.
    More,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size {
        value: u64,
        digits: u8,
    },
    /// Blanks between a size and what follows it.
    Blank(u64),
    Extension(u64),
    SizeLineFeed(u64),
    Data(u64),
    DataReturn,
    DataLineFeed,
    Trailers,
    Done,
}

/// Takes chunks apart.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    extensions: u32,
    scan: Scan,
}

/// What is wrong with a body.
pub(super) type Wrong = &'static str;

impl Chunks {
    pub(super) fn new() -> Self {
        let state = State::Size { value: 0, digits: 0 };
        Self { state, extensions: 0, scan: Scan::of_fields() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What is left of the current chunk, bytes.
    pub(super) fn left(&self) -> u64 {
        if let State::Data(left) = self.state { left } else { 0 }
    }

    /// Takes what it understands from the buffer. Data of several chunks is moved together.
    pub(super) fn decode(&mut self, bytes: &mut BytesMut) -> Result<Decoded, Wrong> {
        let mut at = 0;
        let (mut start, mut end) = (0, 0);
        while at < bytes.len() {
            match self.state {
                State::Data(left) => {
                    let there = bytes.len() - at;
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(there);
                    if start == end {
                        (start, end) = (at, at);
                    } else {
                        bytes.copy_within(at..at + count, end);
                    }
                    end += count;
                    at += count;
                    let left = left - count as u64;
                    self.state = if left == 0 { State::DataReturn } else { State::Data(left) };
                }
                State::Trailers => {
                    if bytes[at..].starts_with(b"\r\n") {
                        at += 2;
                        self.state = State::Done;
                    }
                    break;
                }
                State::Done => break,
                _ => {
                    self.state = self.step(bytes[at])?;
                    at += 1;
                }
            }
        }
        if start < end {
            bytes.advance(start);
            let data = bytes.split_to(end - start).freeze();
            bytes.advance(at - end);
            return Ok(Decoded::Data(data));
        }
        bytes.advance(at);
        match self.state {
            State::Done => Ok(Decoded::End),
            State::Trailers => self.trailers(bytes),
            _ => Ok(Decoded::More),
        }
    }

    /// Goes on by one byte between the data.
    fn step(&mut self, byte: u8) -> Result<State, Wrong> {
        match self.state {
            State::Size { value, digits } => match (char::from(byte).to_digit(16), byte) {
                (Some(_), _) if digits == 16 => Err("a chunk's size is too large"),
                (Some(digit), _) => {
                    let value = value << 4 | u64::from(digit);
                    Ok(State::Size { value, digits: digits + 1 })
                }
                (None, _) if digits == 0 => Err("a chunk has no size"),
                (None, _) => self.after_size(value, byte),
            },
            State::Blank(value) => self.after_size(value, byte),
            State::Extension(value) => match byte {
                b'\r' => Ok(State::SizeLineFeed(value)),
                b'\n' | 0 => Err("a chunk's extension is malformed"),
                _ => self.extension(value),
            },
            State::SizeLineFeed(value) => match (byte, value) {
                (b'\n', 0) => Ok(State::Trailers),
                (b'\n', left) => Ok(State::Data(left)),
                _ => Err("a chunk's size does not end with its line"),
            },
            State::DataReturn if byte == b'\r' => Ok(State::DataLineFeed),
            State::DataLineFeed if byte == b'\n' => Ok(State::Size { value: 0, digits: 0 }),
            _ => Err("a chunk is longer than its size"),
        }
    }

    fn after_size(&mut self, value: u64, byte: u8) -> Result<State, Wrong> {
        match byte {
            b'\r' => Ok(State::SizeLineFeed(value)),
            b' ' | b'\t' => self.extension(value).map(|_| State::Blank(value)),
            b';' => self.extension(value),
            _ => Err("a chunk's size is malformed"),
        }
    }

    fn extension(&mut self, value: u64) -> Result<State, Wrong> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS {
            return Err("the extensions of the chunks are too long");
        }
        Ok(State::Extension(value))
    }

    fn trailers(&mut self, bytes: &mut BytesMut) -> Result<Decoded, Wrong> {
        let end = self.scan.end(bytes, true).map_err(|_| "a trailer's line is malformed")?;
        let Some(end) = end else {
            if bytes.len() > MAX_TRAILERS {
                return Err("the trailers are too long");
            }
            return Ok(Decoded::More);
        };
        if end > MAX_TRAILERS {
            return Err("the trailers are too long");
        }
        self.state = State::Done;
        let section = bytes.split_to(end).freeze();
        let trailers = parse_trailers(&section)?;
        Ok(if trailers.is_empty() { Decoded::End } else { Decoded::Trailers(trailers) })
    }
}

fn parse_trailers(section: &Bytes) -> Result<HeaderMap, Wrong> {
    const MALFORMED: Wrong = "a trailer is malformed";
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let parsed = httparse::parse_headers(section, &mut fields).map_err(|_| MALFORMED)?;
    let httparse::Status::Complete((_, fields)) = parsed else { return Err(MALFORMED) };
    let mut trailers = buffers::headers();
    for field in fields {
        let name = names::with(|names| names.find(field.name.as_bytes())).ok_or(MALFORMED)?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value));
        trailers.append(name, value.map_err(|_| MALFORMED)?);
    }
    Ok(trailers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes bytes that arrive in parts; gives data, trailers, and what is left over.
    fn decode<'a>(
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, HeaderMap, Vec<u8>, bool), Wrong> {
        let mut chunks = Chunks::new();
        let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
        let mut bytes = BytesMut::new();
        for part in parts {
            bytes.extend_from_slice(part);
            loop {
                match chunks.decode(&mut bytes)? {
                    Decoded::Data(more) => data.extend_from_slice(&more),
                    Decoded::Trailers(there) => trailers = there,
                    Decoded::End | Decoded::More => break,
                }
            }
        }
        Ok((data, trailers, bytes.to_vec(), chunks.is_done()))
    }

    #[test]
    fn chunks_are_joined_at_every_split_point() {
        let body = b"3;a=\"b\"\r\nabc\r\n 1"; // a blank is no digit
        assert!(decode([&body[..]]).is_err());
        let body = b"3;a=\"b\"\r\nabc\r\n01 \r\nd\r\n0\r\nX-T: 1\r\n\r\nGET";
        for split in 0..body.len() {
            let (data, trailers, rest, done) = decode([&body[..split], &body[split..]]).unwrap();
            assert_eq!((&data[..], &rest[..], done), (&b"abcd"[..], &b"GET"[..], true), "{split}");
            assert_eq!(trailers["x-t"], "1");
        }
        let single = body.iter().map(std::slice::from_ref);
        assert_eq!(decode(single).unwrap().0, b"abcd");
    }

    #[test]
    fn the_end_is_known_with_the_last_data() {
        let mut chunks = Chunks::new();
        let mut bytes = BytesMut::from(&b"2\r\nhi\r\n0\r\n\r\n"[..]);
        assert!(matches!(chunks.decode(&mut bytes), Ok(Decoded::Data(data)) if data == "hi"));
        assert!(chunks.is_done());
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for body in [
            &b"x\r\n"[..],
            b"\r\n",
            b"-1\r\n",
            b"0x1\r\na\r\n",
            b"1\na\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1\r\na\rb0\r\n\r\n",
            b"1 2\r\nab",
            b"11111111111111111\r\n",
            b"1;a\nb\r\na\r\n",
            b"0\r\nbad name: 1\r\n\r\n",
            b"0\r\n folded: 1\r\n\r\n",
            b"0\r\na: 1\n\r\n",
            b"0\r\na\r\n\r\n",
        ] {
            assert!(decode([body]).is_err(), "{:?}", String::from_utf8_lossy(body));
        }
        let long = format!("1;{}\r\na\r\n", "x".repeat(17 << 10));
        assert!(decode([long.as_bytes()]).is_err());
        let many: String = (0..100).map(|i| format!("h{i}: 1\r\n")).collect();
        assert!(decode([format!("0\r\n{many}\r\n").as_bytes()]).is_err());
        let endless = format!("0\r\n{}", "a: 1\r\n".repeat(8 << 10));
        assert!(decode([endless.as_bytes()]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_chunked_comes_back(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..20),
            cut in 1usize..64,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\nrest");
            // What follows the body arrives with its last byte at the latest.
            let (data, _, rest, done) = decode(body.chunks(cut)).unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(rest, b"rest".to_vec());
            prop_assert!(done);
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode([&bytes[..]]);
            let mut body = b"5\r\nhello\r\n".to_vec();
            body.extend_from_slice(&bytes);
            let _ = decode(body.chunks(7));
        }
    }
}
