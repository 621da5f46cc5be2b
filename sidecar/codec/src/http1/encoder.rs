//! Bodies on their way out, by any framing.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HOST, TE, TRAILER,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::framing::{Framing, lists};
use super::spelling::{Speller, Spelling};
use super::writer::Writer;
use crate::CodecError;

/// What is left of a body that is sent.
#[derive(Debug)]
pub(super) enum Encoder {
    /// Nothing.
    Done,
    /// This many bytes.
    Length(u64),
    /// Chunks, with those trailers behind them that the head has announced.
    Chunked(Vec<HeaderValue>),
    /// All until the connection ends.
    UntilEnd,
}

impl Encoder {
    /// `head`: the fields of the message; trailers are sent if it lists them in `Trailer` and
    /// `trailers` is set.
    pub(super) fn new(framing: Framing, head: &HeaderMap, trailers: bool) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::UntilEnd => Self::UntilEnd,
            Framing::Chunked if trailers && head.contains_key(TRAILER) => {
                Self::Chunked(head.get_all(TRAILER).iter().cloned().collect())
            }
            Framing::Chunked => Self::Chunked(Vec::new()),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Adds a frame of the body; trailers end it.
    pub(super) fn frame(
        &mut self,
        frame: Frame<Bytes>,
        spelling: Spelling,
        writer: &mut Writer,
    ) -> Result<(), CodecError> {
        match frame.into_data() {
            Ok(data) if data.is_empty() => Ok(()),
            Ok(data) => self.data(data, writer),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                self.end(Some(&trailers), spelling, writer)
            }
        }
    }

    fn data(&mut self, data: Bytes, writer: &mut Writer) -> Result<(), CodecError> {
        match self {
            // Nothing of a body that must not be there is sent.
            Self::Done => {}
            Self::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(CodecError::Body)?;
                if *left == 0 {
                    *self = Self::Done;
                }
                writer.put(data, false);
            }
            Self::Chunked(_) => {
                write_size(writer.gather(), data.len());
                writer.put(data, true);
            }
            Self::UntilEnd => writer.put(data, false),
        }
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// It is shorter than was announced.
    pub(super) fn end(
        &mut self,
        trailers: Option<&HeaderMap>,
        spelling: Spelling,
        writer: &mut Writer,
    ) -> Result<(), CodecError> {
        match std::mem::replace(self, Self::Done) {
            Self::Length(_) => return Err(CodecError::Body),
            Self::Done | Self::UntilEnd => {}
            Self::Chunked(listed) => {
                let out = writer.gather();
                out.extend_from_slice(b"0\r\n");
                let nothing = http::Extensions::new();
                let mut speller = Speller::new(spelling, &nothing);
                for (name, value) in trailers.into_iter().flatten() {
                    if may_trail(name, &listed) {
                        speller.write(out, name);
                        out.extend_from_slice(b": ");
                        out.extend_from_slice(value.as_bytes());
                        out.extend_from_slice(b"\r\n");
                    }
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }
}

/// Whether a field was announced and does not change what the head has said (RFC 9110, 6.5.1).
fn may_trail(name: &HeaderName, listed: &[HeaderValue]) -> bool {
    const NEVER: [HeaderName; 9] = [
        AUTHORIZATION,
        CONTENT_ENCODING,
        http::header::CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        HOST,
        TE,
        TRAILER,
        http::header::TRANSFER_ENCODING,
    ];
    !NEVER.contains(name) && listed.iter().any(|value| lists(value, name.as_str()))
}

/// The line before a chunk.
fn write_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let significant = usize::BITS - size.leading_zeros();
    for digit in (0..significant.div_ceil(4)).rev() {
        out.push(DIGITS[size >> (4 * digit) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(
        framing: Framing,
        frames: Vec<Frame<Bytes>>,
        trailers: bool,
    ) -> Result<String, CodecError> {
        let mut head = HeaderMap::new();
        head.insert(TRAILER, HeaderValue::from_static("x-sum, host"));
        let mut encoder = Encoder::new(framing, &head, trailers);
        let mut writer = Writer::default();
        for frame in frames {
            encoder.frame(frame, Spelling::Lower, &mut writer)?;
        }
        if !encoder.is_done() {
            encoder.end(None, Spelling::Lower, &mut writer)?;
        }
        Ok(String::from_utf8(writer.gather().clone()).unwrap())
    }

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_body_is_framed_as_announced() {
        let body = || vec![data("hello"), data(""), data(" worlds and more")];
        let chunked = "5\r\nhello\r\n10\r\n worlds and more\r\n0\r\n\r\n";
        assert_eq!(encode(Framing::Chunked, body(), false).unwrap(), chunked);
        assert_eq!(encode(Framing::UntilEnd, body(), false).unwrap(), "hello worlds and more");
        assert_eq!(encode(Framing::Length(21), body(), false).unwrap(), "hello worlds and more");
        assert!(encode(Framing::Length(20), body(), false).is_err());
        assert!(encode(Framing::Length(22), body(), false).is_err());
        assert_eq!(encode(Framing::None, body(), false).unwrap(), "");
    }

    #[test]
    fn trailers_are_sent_where_they_were_announced_and_are_wanted() {
        let frames = || {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("1"));
            trailers.insert("x-other", HeaderValue::from_static("2"));
            trailers.insert(HOST, HeaderValue::from_static("evil"));
            vec![data("a"), Frame::trailers(trailers)]
        };
        let with = "1\r\na\r\n0\r\nx-sum: 1\r\n\r\n";
        assert_eq!(encode(Framing::Chunked, frames(), true).unwrap(), with);
        assert_eq!(encode(Framing::Chunked, frames(), false).unwrap(), "1\r\na\r\n0\r\n\r\n");
    }
}
