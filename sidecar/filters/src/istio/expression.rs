//! The expressions of `dimensions`: the attributes and literals among CEL's.

use weft_telemetry::LogRecord;

/// What attributes that are not there evaluate to.
const UNKNOWN: &str = "unknown";

/// An expression without operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    Literal(String),
    RequestHeader(http::HeaderName),
    ResponseHeader(http::HeaderName),
    Attribute(Attribute),
}

/// Attributes without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Host,
    Method,
    Path,
    UrlPath,
    Scheme,
    Protocol,
    Id,
    UserAgent,
    Referer,
    Code,
    CodeDetails,
    Flags,
    SourceAddress,
    DestinationPort,
    UpstreamAddress,
    ServerName,
    RouteName,
    ClusterName,
    PeerPrincipal,
}

const ATTRIBUTES: &[(&str, Attribute)] = &[
    ("request.host", Attribute::Host),
    ("request.method", Attribute::Method),
    ("request.path", Attribute::Path),
    ("request.url_path", Attribute::UrlPath),
    ("request.scheme", Attribute::Scheme),
    ("request.protocol", Attribute::Protocol),
    ("request.id", Attribute::Id),
    ("request.useragent", Attribute::UserAgent),
    ("request.referer", Attribute::Referer),
    ("response.code", Attribute::Code),
    ("response.code_details", Attribute::CodeDetails),
    ("response.flags", Attribute::Flags),
    ("source.address", Attribute::SourceAddress),
    ("destination.port", Attribute::DestinationPort),
    ("upstream.address", Attribute::UpstreamAddress),
    ("connection.requested_server_name", Attribute::ServerName),
    ("connection.uri_san_peer_certificate", Attribute::PeerPrincipal),
    ("route_name", Attribute::RouteName),
    ("xds.route_name", Attribute::RouteName),
    ("cluster_name", Attribute::ClusterName),
    ("xds.cluster_name", Attribute::ClusterName),
];

impl Expression {
    /// `None`: it is none of those that are known.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(literal) = quoted(text) {
            return Some(Self::Literal(literal.to_owned()));
        }
        if text.parse::<i64>().is_ok() {
            return Some(Self::Literal(text.to_owned()));
        }
        let key = |prefix: &str| {
            let inner = text.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?;
            quoted(inner.trim())?.to_ascii_lowercase().parse().ok()
        };
        if let Some(name) = key("request.headers") {
            return Some(Self::RequestHeader(name));
        }
        if let Some(name) = key("response.headers") {
            return Some(Self::ResponseHeader(name));
        }
        let known = ATTRIBUTES.iter().find(|(name, _)| *name == text);
        known.map(|(_, attribute)| Self::Attribute(*attribute))
    }

    /// The value of a request or connection.
    pub(super) fn evaluate(&self, record: &LogRecord<'_>) -> String {
        let header = |headers: Option<&http::HeaderMap>, name: &http::HeaderName| {
            let value = headers?.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        match self {
            Self::Literal(text) => Some(text.clone()),
            Self::RequestHeader(name) => header(record.request_headers, name),
            Self::ResponseHeader(name) => header(record.response_headers, name),
            Self::Attribute(attribute) => attribute.value(record),
        }
        .unwrap_or_else(|| UNKNOWN.to_owned())
    }
}

impl Attribute {
    fn value(self, record: &LogRecord<'_>) -> Option<String> {
        let header = |name: &str| record.request_headers?.get(name)?.to_str().ok();
        let path = record.path;
        let text = match self {
            Self::Host => record.authority,
            Self::Method => record.method,
            Self::Path => path,
            Self::UrlPath => path.and_then(|path| path.split('?').next()),
            Self::Scheme => record.scheme,
            Self::Protocol => record.protocol,
            Self::Id => header("x-request-id"),
            Self::UserAgent => header("user-agent"),
            Self::Referer => header("referer"),
            Self::CodeDetails => Some(record.details),
            Self::ServerName => record.server_name,
            Self::RouteName => record.route_name,
            Self::ClusterName => record.upstream_cluster,
            Self::PeerPrincipal => record.peer_uri_sans.first().map(String::as_str),
            Self::Code => return Some(record.status.to_string()),
            Self::Flags => return Some(record.flags.bits().to_string()),
            Self::SourceAddress => return Some(record.downstream_remote.to_string()),
            Self::DestinationPort => return Some(record.downstream_local.port().to_string()),
            Self::UpstreamAddress => return record.upstream_host.map(|host| host.to_string()),
        };
        text.map(str::to_owned)
    }
}

/// What stands between quotes of one kind.
fn quoted(text: &str) -> Option<&str> {
    ['"', '\''].into_iter().find_map(|quote| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains([quote, '\\'])).then_some(inner)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_headers_and_literals_are_known_and_operators_are_not() {
        for text in ["request.host", "'a b'", "\"x\"", "7", "request.headers['X-A']"] {
            assert!(Expression::parse(text).is_some(), "{text}");
        }
        for text in ["request.host + 'a'", "'a' + 'b'", "has(request.host)", "request.nope", ""] {
            assert_eq!(Expression::parse(text), None, "{text}");
        }
    }
}
