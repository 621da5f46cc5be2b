//! Heads on their way in. httparse finds the tokens; what they mean is decided here. Values are
//! parts of the buffer that was read into.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::response::Parts as ResponseParts;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
};
use httparse::{Header, ParserConfig, Status};

use super::buffers;
use super::framing::Fields;
use super::names;
use super::refusal::Refusal;
use super::scan::Scan;
use super::spelling::Spelled;

/// How many fields are found without allocating for them.
const USUAL: usize = 100;
/// How many fields a response may have.
const MAX_RESPONSE_FIELDS: usize = 256;
/// How long the head of a response may be, bytes.
const MAX_RESPONSE_HEAD: usize = 256 << 10;

/// What is accepted as a request's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) fields: usize,
    /// Whether the spelling of names is kept.
    pub(super) spelling: bool,
}

/// Looks for a request's head at the beginning of the buffer and takes it out, into `request`: a
/// head is large, and is not moved about.
pub(super) fn request<B>(
    bytes: &mut BytesMut,
    scan: &mut Scan,
    limits: Limits,
    request: &mut Request<B>,
) -> Result<Option<Fields>, Refusal> {
    let first = !scan.has_begun();
    let end = scan.end(bytes, true).map_err(|_| Refusal::Malformed)?;
    if end.unwrap_or(bytes.len()) > limits.bytes {
        return Err(Refusal::HeadTooLarge);
    }
    let Some(end) = end else {
        // What is no request at all is not waited for.
        if first {
            is_beginning(bytes, limits.fields)?;
        }
        return Ok(None);
    };
    *scan = Scan::default();
    let head = bytes.split_to(end).freeze();
    if limits.fields <= USUAL {
        let mut fields = [const { MaybeUninit::uninit() }; USUAL];
        parse_request(&head, &mut fields[..limits.fields], limits, request).map(Some)
    } else {
        let mut fields = vec![MaybeUninit::uninit(); limits.fields];
        parse_request(&head, &mut fields, limits, request).map(Some)
    }
}

/// Whether bytes may become a request's head.
fn is_beginning(bytes: &[u8], fields: usize) -> Result<(), Refusal> {
    let mut fields = vec![MaybeUninit::uninit(); fields];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut fields);
    parsed.map(|_| ()).map_err(|error| refusal(error, bytes))
}

fn refusal(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders,
        httparse::Error::Version | httparse::Error::Token if lacks_version(bytes) => {
            Refusal::UnknownVersion
        }
        httparse::Error::HeaderValue | httparse::Error::Token if has_control(bytes) => {
            Refusal::InvalidCharacters
        }
        _ => Refusal::Malformed,
    }
}

/// Whether the first line is right but for its version: one of HTTP's, or none.
fn lacks_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    // The preface of HTTP/2 is no request of HTTP/1.
    let usual = method != b"PRI" && method.iter().all(u8::is_ascii_uppercase);
    let version = words.next();
    usual
        && !method.is_empty()
        && !target.is_empty()
        && target.iter().all(u8::is_ascii_graphic)
        && version.is_none_or(|version| version.starts_with(b"HTTP/"))
        && words.next().is_none()
}

/// Whether a character that is neither text nor the end of a line follows the method.
fn has_control(bytes: &[u8]) -> bool {
    let control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n');
    let method = bytes.iter().position(|byte| !byte.is_ascii_alphabetic());
    method.is_some_and(|end| bytes[end] == b' ' && bytes[end..].iter().any(control))
}

fn parse_request<'a, B>(
    head: &'a Bytes,
    fields: &mut [MaybeUninit<Header<'a>>],
    limits: Limits,
    request: &mut Request<B>,
) -> Result<Fields, Refusal> {
    let mut found = httparse::Request::new(&mut []);
    let parsed = found.parse_with_uninit_headers(head, fields);
    let parsed = parsed.map_err(|error| refusal(error, head))?;
    let (Status::Complete(_), Some(method), Some(path), Some(version)) =
        (parsed, found.method, found.path, found.version)
    else {
        return Err(Refusal::Malformed);
    };
    *request.method_mut() =
        Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::Malformed)?;
    *request.uri_mut() = target(head, path)?;
    *request.version_mut() = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let fields =
        read_fields(head, found.headers, request.headers_mut()).map_err(|()| Refusal::Malformed)?;
    if limits.spelling {
        keep_spelling(head, found.headers, request.extensions_mut());
    }
    Ok(fields)
}

/// The target of a request.
fn target(head: &Bytes, text: &str) -> Result<Uri, Refusal> {
    if !text.is_ascii() {
        return Err(Refusal::Malformed);
    }
    let uri = Uri::from_maybe_shared(head.slice_ref(text.as_bytes()));
    let uri = uri.map_err(|_| Refusal::Malformed)?;
    // A fragment is left out of what was read.
    let read = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if text.starts_with('/') && read < text.len() {
        return Err(Refusal::Fragment);
    }
    Ok(uri)
}

/// Looks for a response's head at the beginning of the buffer and takes it out.
pub(super) fn response(
    bytes: &mut BytesMut,
    scan: &mut Scan,
    spelling: bool,
) -> Result<Option<(ResponseParts, Fields)>, &'static str> {
    const MALFORMED: &str = "the response's head is malformed";
    let first = !scan.has_begun();
    let end = scan.end(bytes, false).map_err(|_| MALFORMED)?;
    if end.unwrap_or(bytes.len()) > MAX_RESPONSE_HEAD {
        return Err("the response's head is too large");
    }
    let Some(end) = end else {
        if first {
            let mut fields = [const { MaybeUninit::uninit() }; MAX_RESPONSE_FIELDS];
            let mut response = httparse::Response::new(&mut []);
            let parser = response_parser();
            let parsed =
                parser.parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
            parsed.map_err(|_| MALFORMED)?;
        }
        return Ok(None);
    };
    *scan = Scan::default();
    let head = bytes.split_to(end).freeze();
    let mut fields = [const { MaybeUninit::uninit() }; MAX_RESPONSE_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        response_parser().parse_response_with_uninit_headers(&mut response, &head, &mut fields);
    let (Ok(Status::Complete(_)), Some(code), Some(version)) =
        (parsed, response.code, response.version)
    else {
        return Err(MALFORMED);
    };
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(code).map_err(|_| MALFORMED)?;
    parts.version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let fields =
        read_fields(&head, response.headers, &mut parts.headers).map_err(|()| MALFORMED)?;
    if spelling {
        keep_spelling(&head, response.headers, &mut parts.extensions);
    }
    Ok(Some((parts, fields)))
}

fn response_parser() -> ParserConfig {
    let mut parser = ParserConfig::default();
    parser.allow_obsolete_multiline_headers_in_responses(true);
    parser
}

/// Puts the fields into a map.
fn read_fields(head: &Bytes, from: &[Header<'_>], to: &mut HeaderMap) -> Result<Fields, ()> {
    let mut fields = Fields::default();
    *to = buffers::headers();
    to.try_reserve(from.len()).map_err(|_| ())?;
    names::with(|names| {
        for field in from {
            let name = names.find(field.name.as_bytes()).ok_or(())?;
            let value = match HeaderValue::from_maybe_shared(head.slice_ref(field.value)) {
                Ok(value) => value,
                Err(_) => unfold(field.value).ok_or(())?,
            };
            fields.see(&name, &value);
            to.try_append(name, value).map_err(|_| ())?;
        }
        Ok(fields)
    })
}

/// Puts a value that was folded into several lines on one (RFC 9112, 5.2).
fn unfold(value: &[u8]) -> Option<HeaderValue> {
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let unfolded = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(&b' ');
    HeaderValue::from_maybe_shared(Bytes::from(unfolded)).ok()
}

fn keep_spelling(head: &Bytes, fields: &[Header<'_>], extensions: &mut Extensions) {
    let mut spelled = Spelled::default();
    for field in fields {
        let bytes = head.slice_ref(field.name.as_bytes());
        if let Some(name) = names::with(|names| names.find(&bytes)) {
            spelled.remember(&name, bytes);
        }
    }
    if !spelled.is_empty() {
        extensions.insert(spelled);
    }
}

#[cfg(test)]
mod tests;
