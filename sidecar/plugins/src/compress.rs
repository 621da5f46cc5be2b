//! Bodies that are compressed while they pass, as nginx's filters do: which, and how.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, VARY};
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderValue, Method, Version};
use http_body::{Body, Frame};
use serde::Deserialize;
use serde_json::Value;
use weft_filter_api::{BodyError, BoxedBody, LocalReply};

use crate::definition::decode;
use crate::exchange::Answer;

/// Which responses are compressed.
#[derive(Debug)]
pub(crate) struct Which {
    /// The coding's name in `Accept-Encoding` and `Content-Encoding`.
    coding: &'static str,
    /// `None`: all.
    types: Option<Vec<String>>,
    min_length: u64,
    version: Version,
    vary: bool,
}

/// A response that is to be compressed.
struct Chosen;

impl Which {
    /// Reads `types`, `min_length`, `http_version` and `vary`.
    pub(crate) fn read(coding: &'static str, settings: &Value) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Raw {
            types: Types,
            min_length: u64,
            http_version: f64,
            vary: Option<bool>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Types {
            Listed(Vec<String>),
            All(String),
        }
        let raw: Raw = decode(settings)?;
        let types = match raw.types {
            Types::Listed(types) => {
                Some(types.iter().map(|name| name.to_ascii_lowercase()).collect())
            }
            Types::All(text) if text == "*" => None,
            Types::All(text) => return Err(format!("types: {text:?} is neither a list nor \"*\"")),
        };
        let version = if raw.http_version < 1.1 { Version::HTTP_10 } else { Version::HTTP_11 };
        let (min_length, vary) = (raw.min_length, raw.vary == Some(true));
        Ok(Self { coding, types, min_length, version, vary })
    }

    /// Decides about a response and writes its head accordingly.
    pub(crate) fn choose(&self, answer: &mut Answer<'_>, head: &mut ResponseHead) {
        if !self.fits(head) {
            return;
        }
        if self.vary {
            head.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        let asked = answer.run.request.as_deref().is_some_and(|request| {
            request.method != Method::HEAD
                && request.version >= self.version
                && accepts(&request.headers, self.coding)
        });
        if asked {
            head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(self.coding));
            head.headers.remove(CONTENT_LENGTH);
            weaken(&mut head.headers);
            answer.keep(Chosen);
        }
    }

    fn fits(&self, head: &ResponseHead) -> bool {
        let header =
            |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let length = header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let kind = header(CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        matches!(head.status.as_u16(), 200 | 403 | 404)
            && !head.headers.contains_key(CONTENT_ENCODING)
            && length.is_none_or(|length| length >= self.min_length)
            && self.types.as_ref().is_none_or(|types| types.contains(&kind))
    }
}

/// Whether a body is to be compressed.
pub(crate) fn is_chosen(answer: &Answer<'_>) -> bool {
    answer.kept::<Chosen>().is_some()
}

/// Whether a client takes a coding: it is named, or all are, and not with the weight 0.
fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut weights = lines.flat_map(|line| line.split(',')).filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next()?;
        let weight = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(Some(1.0), |weight| weight.parse().ok());
        Some((name, weight.unwrap_or(0.0)))
    });
    let named: Vec<(&str, f32)> = weights.by_ref().collect();
    let weight = |wanted: &str| {
        named.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, weight)| *weight)
    };
    weight(coding).or_else(|| weight("*")).is_some_and(|weight| weight > 0.0)
}

/// The compressed bytes are others: a strong tag no longer holds (RFC 9110, 8.8.3.3).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else {
        return;
    };
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => headers.insert(ETAG, weak),
        Err(_) => headers.remove(ETAG),
    };
}

/// Something that compresses what is written to it.
pub(crate) trait Compressor: Write + Send {
    /// What came out so far.
    fn take(&mut self) -> Vec<u8>;
    /// What is left at the end.
    fn finish(self: Box<Self>) -> io::Result<Vec<u8>>;
}

/// A body on its way through a compressor.
pub(crate) fn compressed(body: BoxedBody, compressor: Box<dyn Compressor>) -> BoxedBody {
    Box::pin(Compressed { body, compressor: Some(compressor), trailers: None })
}

struct Compressed {
    body: BoxedBody,
    /// `None`: it has finished.
    compressor: Option<Box<dyn Compressor>>,
    trailers: Option<HeaderMap>,
}

impl Compressed {
    fn take_in(&mut self, frame: Option<Frame<Bytes>>) -> io::Result<Vec<u8>> {
        let Some(mut compressor) = self.compressor.take() else { return Ok(Vec::new()) };
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                compressor.write_all(&data)?;
                let out = compressor.take();
                self.compressor = Some(compressor);
                Ok(out)
            }
            other => {
                let trailers = other.and_then(Result::err);
                self.trailers = trailers.and_then(|frame| frame.into_trailers().ok());
                compressor.finish()
            }
        }
    }
}

impl Body for Compressed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.compressor.is_none() {
                return Poll::Ready(self.trailers.take().map(|all| Ok(Frame::trailers(all))));
            }
            let frame = match ready!(self.body.as_mut().poll_frame(cx)).transpose() {
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(frame) => frame,
            };
            match self.take_in(frame) {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out.into())))),
                Err(error) => {
                    tracing::warn!(%error, "a body could not be compressed");
                    let status = http::StatusCode::INTERNAL_SERVER_ERROR;
                    let reply = LocalReply::text(status, "", "compression_failed");
                    return Poll::Ready(Some(Err(BodyError::Refused(Box::new(reply)))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_is_taken_if_it_is_named_without_the_weight_0() {
        for (line, taken) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("*", true),
            ("*, gzip;q=0", false),
            ("br", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, line.parse().expect("text"))]);
            assert_eq!(accepts(&headers, "gzip"), taken, "{line}");
        }
    }

    #[test]
    fn strong_tags_become_weak() {
        for (tag, weak) in [("\"a\"", "W/\"a\""), ("W/\"a\"", "W/\"a\"")] {
            let mut headers = HeaderMap::from_iter([(ETAG, tag.parse().expect("text"))]);
            weaken(&mut headers);
            assert_eq!(headers[ETAG], weak);
        }
    }
}
