//! Header fields as they are after decompression.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, StatusCode};

/// The name of a field.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
    Header(HeaderName),
    /// None that a message may have.
    Unfit,
}

/// A field with its name; parsed once, and cheap to clone where it comes from a table.
#[derive(Clone, Debug)]
pub(in super::super) enum Field {
    Method(Method),
    Scheme(Scheme),
    Authority(Authority),
    Path(PathAndQuery),
    /// `:protocol` (RFC 8441, 4)
    Protocol(HeaderValue),
    Status(StatusCode),
    Header(HeaderName, HeaderValue),
    /// A message with this one is malformed (RFC 9113, 8.2 and 8.3).
    Malformed,
}

impl Name {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        match bytes {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":status" => Self::Status,
            _ if bytes.iter().any(u8::is_ascii_uppercase) => Self::Unfit,
            _ => HeaderName::from_bytes(bytes).map_or(Self::Unfit, Self::Header),
        }
    }

    pub(super) fn with(&self, value: Bytes) -> Field {
        let field = match self {
            Self::Method => Method::from_bytes(&value).ok().map(Field::Method),
            Self::Scheme => Scheme::try_from(&*value).ok().map(Field::Scheme),
            Self::Authority => Authority::from_maybe_shared(value).ok().map(Field::Authority),
            Self::Path => path(value),
            Self::Protocol => HeaderValue::from_maybe_shared(value).ok().map(Field::Protocol),
            Self::Status => StatusCode::from_bytes(&value).ok().map(Field::Status),
            Self::Header(name) if !allowed(name, &value) => None,
            Self::Header(name) => HeaderValue::from_maybe_shared(value)
                .ok()
                .map(|value| Field::Header(name.clone(), value)),
            Self::Unfit => None,
        };
        field.unwrap_or(Field::Malformed)
    }
}

fn path(value: Bytes) -> Option<Field> {
    let fits = value.first() == Some(&b'/') || *value == b"*"[..];
    PathAndQuery::from_maybe_shared(value).ok().filter(|_| fits).map(Field::Path)
}

/// Whether a field may occur in HTTP/2 (RFC 9113, 8.2.2).
fn allowed(name: &HeaderName, value: &[u8]) -> bool {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    if *name == TE {
        return value.eq_ignore_ascii_case(b"trailers");
    }
    ![CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION].contains(name)
}

/// An entry of the static table.
pub(super) struct Static {
    pub(super) name: Name,
    pub(super) field: Field,
    pub(super) size: usize,
}

/// The static table (RFC 7541, appendix A); the first entry has the index 1.
pub(super) static STATIC: LazyLock<Vec<Static>> = LazyLock::new(|| {
    let entries = STATIC_TEXT.iter().map(|(name, value)| {
        let size = name.len() + value.len() + super::ENTRY_OVERHEAD;
        let name = Name::parse(name.as_bytes());
        let field = name.with(Bytes::from_static(value.as_bytes()));
        Static { name, field, size }
    });
    entries.collect()
});

pub(super) const STATIC_TEXT: [(&str, &str); super::STATIC_ENTRIES] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
