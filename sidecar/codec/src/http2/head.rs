//! Heads of messages: pseudo-headers and headers (RFC 9113, 8.3).

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, UPGRADE};
use http::request::Parts as RequestHead;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};

use super::hpack::{Encoder, Field};

/// Fields that a usual message has.
const USUAL_FIELDS: usize = 12;

/// Makes a CONNECT request an extended one (RFC 8441, 4); among the request's extensions.
#[derive(Clone, Debug)]
pub struct Protocol(pub HeaderValue);

/// The fields of a message as they arrive.
#[derive(Debug)]
pub(super) struct Received {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    protocol: Option<HeaderValue>,
    status: Option<StatusCode>,
    pub(super) headers: HeaderMap,
    /// How much the header list may still count.
    room: usize,
    /// It is too long; nothing more is kept.
    pub(super) too_long: bool,
    malformed: bool,
}

impl Received {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            method: None,
            scheme: None,
            authority: None,
            path: None,
            protocol: None,
            status: None,
            headers: HeaderMap::new(),
            room: limit,
            too_long: false,
            malformed: false,
        }
    }

    pub(super) fn add(&mut self, field: Field, size: usize) {
        match self.room.checked_sub(size) {
            Some(room) => self.room = room,
            None => self.too_long = true,
        }
        if self.too_long {
            return;
        }
        let twice = match field {
            Field::Header(name, value) => {
                if self.headers.is_empty() {
                    self.headers.reserve(USUAL_FIELDS);
                }
                self.headers.append(name, value);
                return;
            }
            Field::Method(method) => self.method.replace(method).is_some(),
            Field::Scheme(scheme) => self.scheme.replace(scheme).is_some(),
            Field::Authority(authority) => self.authority.replace(authority).is_some(),
            Field::Path(path) => self.path.replace(path).is_some(),
            Field::Protocol(protocol) => self.protocol.replace(protocol).is_some(),
            Field::Status(status) => self.status.replace(status).is_some(),
            Field::Malformed => true,
        };
        // Pseudo-headers come before all others.
        self.malformed |= twice || !self.headers.is_empty();
    }

    /// A request; `None`: it is malformed. An extended CONNECT takes the form that asking for
    /// another protocol has in HTTP/1.1.
    pub(super) fn request(self, connect_protocol: bool) -> Option<Request<()>> {
        let method = self.method?;
        let connect = method == Method::CONNECT;
        let tunnel = connect && self.protocol.is_none();
        let whole = if tunnel {
            self.scheme.is_none() && self.path.is_none() && self.authority.is_some()
        } else {
            self.scheme.is_some() && self.path.is_some()
        };
        let extended = self.protocol.is_none() || connect && connect_protocol;
        if self.malformed || self.status.is_some() || !whole || !extended {
            return None;
        }
        let mut uri = http::uri::Parts::default();
        // A target can't have a scheme and no authority.
        uri.scheme = self.scheme.filter(|_| self.authority.is_some());
        uri.authority = self.authority;
        uri.path_and_query = self.path;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        if let Some(protocol) = self.protocol {
            *request.method_mut() = Method::GET;
            request.headers_mut().insert(UPGRADE, protocol);
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        Some(request)
    }

    /// A response; `None`: it is malformed.
    pub(super) fn response(self) -> Option<Response<()>> {
        let requests = self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || self.path.is_some()
            || self.protocol.is_some();
        if self.malformed || requests {
            return None;
        }
        let mut response = Response::new(());
        *response.status_mut() = self.status?;
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = self.headers;
        Some(response)
    }

    /// Trailers; `None`: they are malformed.
    pub(super) fn trailers(self) -> Option<HeaderMap> {
        let pseudo = self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || self.path.is_some()
            || self.status.is_some()
            || self.protocol.is_some();
        (!self.malformed && !pseudo && !self.too_long).then_some(self.headers)
    }
}

/// `content-length`; an error: it is none, or there are several that differ.
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    let mut found = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let text = value.to_str().map_err(drop)?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let length = text.parse().ok().filter(|_| digits).ok_or(())?;
        if found.is_some_and(|found| found != length) {
            return Err(());
        }
        found = Some(length);
    }
    Ok(found)
}

/// Writes the fields of a request.
pub(super) fn write_request(head: &RequestHead, encoder: &mut Encoder, out: &mut Vec<u8>) {
    match head.method {
        Method::GET => encoder.known(out, 2),
        Method::POST => encoder.known(out, 3),
        _ => encoder.pseudo(out, ":method", head.method.as_str().as_bytes()),
    }
    let connect = head.method == Method::CONNECT;
    let protocol = if connect { head.extensions.get() } else { None };
    if let Some(Protocol(protocol)) = protocol {
        encoder.pseudo(out, ":protocol", protocol.as_bytes());
    }
    let tunnel = connect && protocol.is_none();
    if !tunnel {
        match head.uri.scheme_str() {
            Some("https") => encoder.known(out, 7),
            Some("http") | None => encoder.known(out, 6),
            Some(scheme) => encoder.pseudo(out, ":scheme", scheme.as_bytes()),
        }
    }
    if let Some(authority) = head.uri.authority() {
        encoder.pseudo(out, ":authority", authority.as_str().as_bytes());
    }
    if !tunnel {
        match head.uri.path_and_query().map_or("/", PathAndQuery::as_str) {
            "/" => encoder.known(out, 4),
            path => encoder.pseudo(out, ":path", path.as_bytes()),
        }
    }
    for (name, value) in &head.headers {
        if *name != HOST || head.uri.authority().is_none() {
            encoder.header(out, name, value);
        }
    }
}

/// Writes the fields of a response.
pub(super) fn write_response<B>(head: &Response<B>, encoder: &mut Encoder, out: &mut Vec<u8>) {
    match head.status().as_u16() {
        200 => encoder.known(out, 8),
        204 => encoder.known(out, 9),
        206 => encoder.known(out, 10),
        304 => encoder.known(out, 11),
        400 => encoder.known(out, 12),
        404 => encoder.known(out, 13),
        500 => encoder.known(out, 14),
        _ => encoder.pseudo(out, ":status", head.status().as_str().as_bytes()),
    }
    for (name, value) in head.headers() {
        encoder.header(out, name, value);
    }
}
