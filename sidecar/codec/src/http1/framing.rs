//! How long a message's body is (RFC 9112, 6.3).

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::refusal::Refusal;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    #[default]
    None,
    /// It has this many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
    /// It ends with the connection.
    UntilEnd,
}

/// What the fields of a head say about its message and its connection, found out while they are
/// read.
#[derive(Debug, Default)]
pub(super) struct Fields {
    lengths: u32,
    length: Option<u64>,
    codings: u32,
    chunked: bool,
    /// `Connection` lists `close`.
    pub(super) close: bool,
    /// `Connection` lists `keep-alive`.
    pub(super) keep_alive: bool,
    /// `Connection` lists `upgrade`.
    pub(super) upgrade: bool,
    /// `Expect: 100-continue`
    pub(super) expects_continue: bool,
    /// `TE` lists `trailers`.
    pub(super) trailers: bool,
}

impl Fields {
    /// Looks at one field.
    pub(super) fn see(&mut self, name: &HeaderName, value: &HeaderValue) {
        // Most names differ in their length already.
        let text = name.as_str();
        match text.len() {
            2 if text == "te" => self.trailers |= lists(value, "trailers"),
            6 if text == "expect" => {
                self.expects_continue |= value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            10 if name == CONNECTION => {
                self.close |= lists(value, "close");
                self.keep_alive |= lists(value, "keep-alive");
                self.upgrade |= lists(value, "upgrade");
            }
            14 if name == CONTENT_LENGTH => {
                let length = parse_length(value.as_bytes());
                let same = self.lengths == 0 || self.length == length;
                self.length = length.filter(|_| same);
                self.lengths += 1;
            }
            17 if name == TRANSFER_ENCODING => {
                self.codings += 1;
                self.chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
    }

    /// The framing of a request.
    pub(super) fn of_request(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.codings, self.lengths) {
            (0, 0) => Ok(Framing::None),
            (0, 1) => self.length.map(Framing::Length).ok_or(Refusal::Malformed),
            (0, _) => Err(Refusal::Malformed),
            (1, 0) if self.chunked && version == Version::HTTP_11 => Ok(Framing::Chunked),
            (1, 0) if self.chunked => Err(Refusal::Malformed),
            (_, 0) => Err(Refusal::UnknownCoding),
            _ => Err(Refusal::LengthAndChunks),
        }
    }

    /// The framing of a response to a request of this method, and whether it leaves no doubt
    /// where the next response begins.
    pub(super) fn of_response(
        &self,
        status: StatusCode,
        method: &Method,
    ) -> Result<(Framing, bool), &'static str> {
        if has_no_body(status) || *method == Method::HEAD {
            return Ok((Framing::None, true));
        }
        if self.codings > 0 && self.lengths > 0 {
            return Err("the response has a content-length and a transfer-encoding");
        }
        if self.codings > 0 {
            let framing = if self.codings == 1 && self.chunked {
                Framing::Chunked
            } else {
                Framing::UntilEnd
            };
            return Ok((framing, framing == Framing::Chunked));
        }
        match (self.lengths, self.length) {
            (0, _) => Ok((Framing::UntilEnd, false)),
            (_, Some(length)) => Ok((Framing::Length(length), true)),
            (_, None) => Err("the response's content-length is malformed"),
        }
    }
}

/// Whether a response of this status never has a body (RFC 9110, 6.4.1).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// The length that a head to be sent announces.
pub(super) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    parse_length(headers.get(CONTENT_LENGTH)?.as_bytes())
}

/// Digits and nothing else.
fn parse_length(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether a comma-separated list contains a word.
pub(super) fn lists(value: &HeaderValue, word: &str) -> bool {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(headers: &[(&'static str, &'static str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in headers {
            fields.see(&HeaderName::from_static(name), &HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn a_request_is_framed_or_refused() {
        const CL: &str = "content-length";
        const TE: &str = "transfer-encoding";
        let framing = |headers: &[_]| fields(headers).of_request(Version::HTTP_11);
        assert_eq!(framing(&[]), Ok(Framing::None));
        assert_eq!(framing(&[(CL, "12")]), Ok(Framing::Length(12)));
        assert_eq!(framing(&[(TE, "Chunked")]), Ok(Framing::Chunked));
        for wrong in ["", "+1", "-1", "1 ", "1,1", "0x1", "1.0", "18446744073709551616"] {
            assert_eq!(framing(&[(CL, wrong)]), Err(Refusal::Malformed), "{wrong:?}");
        }
        assert_eq!(framing(&[(CL, "1"), (CL, "1")]), Err(Refusal::Malformed));
        assert_eq!(framing(&[(CL, "1"), (TE, "chunked")]), Err(Refusal::LengthAndChunks));
        for unknown in ["gzip", "gzip, chunked", "chunked, chunked", "chunked;q=1", "xchunked", ""]
        {
            assert_eq!(framing(&[(TE, unknown)]), Err(Refusal::UnknownCoding), "{unknown:?}");
        }
        let twice = [(TE, "chunked"), (TE, "chunked")];
        assert_eq!(framing(&twice), Err(Refusal::UnknownCoding));
        let old = fields(&[(TE, "chunked")]).of_request(Version::HTTP_10);
        assert_eq!(old, Err(Refusal::Malformed));
    }

    #[test]
    fn a_response_is_framed_by_its_request_too() {
        let framing = |headers: &[_], status, method| {
            fields(headers).of_response(StatusCode::from_u16(status).unwrap(), method)
        };
        let length = [("content-length", "5")];
        assert_eq!(framing(&length, 200, &Method::GET), Ok((Framing::Length(5), true)));
        assert_eq!(framing(&length, 200, &Method::HEAD), Ok((Framing::None, true)));
        assert_eq!(framing(&length, 304, &Method::GET), Ok((Framing::None, true)));
        assert_eq!(framing(&[], 204, &Method::GET), Ok((Framing::None, true)));
        assert_eq!(framing(&[], 200, &Method::GET), Ok((Framing::UntilEnd, false)));
        let both = [("content-length", "5"), ("transfer-encoding", "chunked")];
        assert!(framing(&both, 200, &Method::GET).is_err(), "one of the two is a lie");
        let twice = [("content-length", "5"), ("content-length", "5")];
        assert_eq!(framing(&twice, 200, &Method::GET), Ok((Framing::Length(5), true)));
        let differing = [("content-length", "5"), ("content-length", "6")];
        assert!(framing(&differing, 200, &Method::GET).is_err());
        let gzip = [("transfer-encoding", "gzip")];
        assert_eq!(framing(&gzip, 200, &Method::GET), Ok((Framing::UntilEnd, false)));
    }
}
