//! The operators of a format.

use std::fmt::Display;
use std::io::Write as _;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderName};

use super::timestamp::TimeFormat;
use super::{FormatError, LogRecord};

/// One `%OPERATOR%`.
#[derive(Debug)]
pub(super) struct Operator {
    kind: Kind,
    /// `:LENGTH`: longer values are cut, in bytes.
    max: Option<usize>,
}

#[derive(Debug)]
enum Kind {
    StartTime(TimeFormat),
    Request(Field, Option<Field>),
    Response(HeaderName, Option<HeaderName>),
    Trailer(HeaderName),
    Plain(Plain),
}

/// What `%REQ()%` can name.
#[derive(Debug)]
enum Field {
    Method,
    Path,
    Authority,
    Scheme,
    OriginalPath,
    Header(HeaderName),
}

/// Operators without arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plain {
    Protocol,
    ResponseCode,
    ResponseCodeDetails,
    ConnectionTerminationDetails,
    ResponseFlags,
    BytesReceived,
    BytesSent,
    Duration,
    ResponseDuration,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocal,
    UpstreamTransportFailure,
    UpstreamAttempts,
    DownstreamLocal,
    DownstreamLocalIp,
    DownstreamLocalPort,
    DownstreamRemote,
    DownstreamRemoteIp,
    DownstreamRemotePort,
    DownstreamDirectRemote,
    DownstreamDirectRemoteIp,
    DownstreamPeerUriSan,
    DownstreamPeerSubject,
    DownstreamLocalUriSan,
    RequestedServerName,
    RouteName,
    ConnectionId,
    Hostname,
}

const PLAIN: &[(&str, Plain)] = &[
    ("PROTOCOL", Plain::Protocol),
    ("RESPONSE_CODE", Plain::ResponseCode),
    ("RESPONSE_CODE_DETAILS", Plain::ResponseCodeDetails),
    ("CONNECTION_TERMINATION_DETAILS", Plain::ConnectionTerminationDetails),
    ("RESPONSE_FLAGS", Plain::ResponseFlags),
    ("BYTES_RECEIVED", Plain::BytesReceived),
    ("BYTES_SENT", Plain::BytesSent),
    ("DURATION", Plain::Duration),
    ("RESPONSE_DURATION", Plain::ResponseDuration),
    ("UPSTREAM_HOST", Plain::UpstreamHost),
    ("UPSTREAM_REMOTE_ADDRESS", Plain::UpstreamHost),
    ("UPSTREAM_CLUSTER", Plain::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Plain::UpstreamCluster),
    ("UPSTREAM_LOCAL_ADDRESS", Plain::UpstreamLocal),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Plain::UpstreamTransportFailure),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Plain::UpstreamAttempts),
    ("DOWNSTREAM_LOCAL_ADDRESS", Plain::DownstreamLocal),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Plain::DownstreamLocalIp),
    ("DOWNSTREAM_LOCAL_PORT", Plain::DownstreamLocalPort),
    ("DOWNSTREAM_REMOTE_ADDRESS", Plain::DownstreamRemote),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Plain::DownstreamRemoteIp),
    ("DOWNSTREAM_REMOTE_PORT", Plain::DownstreamRemotePort),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Plain::DownstreamDirectRemote),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Plain::DownstreamDirectRemoteIp),
    ("DOWNSTREAM_PEER_URI_SAN", Plain::DownstreamPeerUriSan),
    ("DOWNSTREAM_PEER_SUBJECT", Plain::DownstreamPeerSubject),
    ("DOWNSTREAM_LOCAL_URI_SAN", Plain::DownstreamLocalUriSan),
    ("REQUESTED_SERVER_NAME", Plain::RequestedServerName),
    ("ROUTE_NAME", Plain::RouteName),
    ("CONNECTION_ID", Plain::ConnectionId),
    ("HOSTNAME", Plain::Hostname),
];

impl Operator {
    /// Parses what stands between the percent signs; `at` is for errors.
    pub(super) fn parse(text: &str, at: usize) -> Result<Self, FormatError> {
        let operator = || text.to_owned();
        let (name, rest) = text.split_at(text.find(['(', ':']).unwrap_or(text.len()));
        let (argument, rest) = match rest.strip_prefix('(') {
            None => (None, rest),
            Some(inner) => {
                let end = inner.rfind(')').ok_or_else(|| FormatError::Argument {
                    at,
                    operator: operator(),
                    why: "the parenthesis is not closed",
                })?;
                (Some(&inner[..end]), &inner[end + 1..])
            }
        };
        let max = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some(length) if length.parse::<usize>().is_ok() => length.parse().ok(),
            _ => {
                let why = "expected `:LENGTH` or nothing after the operator";
                return Err(FormatError::Argument { at, operator: operator(), why });
            }
        };
        let kind = Kind::parse(name, argument, at)?;
        Ok(Self { kind, max })
    }

    /// Writes the operator's value; `-` when there is none.
    pub(super) fn write(&self, record: &LogRecord<'_>, out: &mut Output<'_>) {
        out.max = self.max;
        match &self.kind {
            Kind::StartTime(format) => out.display(&format.of(record.started_at)),
            Kind::Request(field, otherwise) => {
                let first = field.value(record);
                let value =
                    first.or_else(|| otherwise.as_ref().and_then(|field| field.value(record)));
                out.bytes(value);
            }
            Kind::Response(name, otherwise) => {
                let first = header(record.response_headers, name);
                let second =
                    || otherwise.as_ref().and_then(|name| header(record.response_headers, name));
                out.bytes(first.or_else(second));
            }
            Kind::Trailer(name) => out.bytes(header(record.response_trailers, name)),
            Kind::Plain(plain) => plain.write(record, out),
        }
    }
}

impl Kind {
    fn parse(name: &str, argument: Option<&str>, at: usize) -> Result<Self, FormatError> {
        let wrong = |why| FormatError::Argument { at, operator: name.to_owned(), why };
        let header = |text: &str| {
            text.to_ascii_lowercase().parse::<HeaderName>().map_err(|_| wrong("not a header name"))
        };
        match (name, argument) {
            ("START_TIME", format) => Ok(Self::StartTime(TimeFormat::parse(format))),
            ("REQ", Some(names)) => {
                let (first, second) = alternatives(names);
                let second = second.map(|text| Field::parse(text, header)).transpose()?;
                Ok(Self::Request(Field::parse(first, header)?, second))
            }
            ("RESP", Some(names)) => {
                let (first, second) = alternatives(names);
                Ok(Self::Response(header(first)?, second.map(header).transpose()?))
            }
            ("TRAILER", Some(name)) => Ok(Self::Trailer(header(name)?)),
            ("REQ" | "RESP" | "TRAILER", None) => {
                Err(wrong("a header name in parentheses is missing"))
            }
            _ => PLAIN
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, plain)| Self::Plain(*plain))
                .ok_or_else(|| FormatError::Unknown { at, operator: name.to_owned() }),
        }
    }
}

/// `A?B`: the second is taken when the first is absent.
fn alternatives(names: &str) -> (&str, Option<&str>) {
    names.split_once('?').map_or((names, None), |(first, second)| (first, Some(second)))
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &HeaderName) -> Option<&'a [u8]> {
    headers?.get(name).map(http::HeaderValue::as_bytes)
}

impl Field {
    fn parse(
        name: &str,
        header: impl Fn(&str) -> Result<HeaderName, FormatError>,
    ) -> Result<Self, FormatError> {
        Ok(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":authority" => Self::Authority,
            ":scheme" => Self::Scheme,
            "x-envoy-original-path" => Self::OriginalPath,
            other => Self::Header(header(other)?),
        })
    }

    fn value<'a>(&self, record: &LogRecord<'a>) -> Option<&'a [u8]> {
        match self {
            Self::Method => record.method.map(str::as_bytes),
            Self::Path => record.path.map(str::as_bytes),
            Self::Authority => record.authority.map(str::as_bytes),
            Self::Scheme => record.scheme.map(str::as_bytes),
            Self::OriginalPath => record.original_path.map(str::as_bytes),
            Self::Header(name) => header(record.request_headers, name),
        }
    }
}

impl Plain {
    fn write(self, record: &LogRecord<'_>, out: &mut Output<'_>) {
        let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        match self {
            Self::ResponseCode => out.number(Some(record.status.into())),
            Self::BytesReceived => out.number(Some(record.bytes_received)),
            Self::BytesSent => out.number(Some(record.bytes_sent)),
            Self::Duration => out.number(Some(millis(record.duration))),
            Self::ResponseDuration => out.number(record.until_response.map(millis)),
            Self::UpstreamAttempts => out.number(Some(record.attempts.into())),
            Self::ConnectionId => out.number(Some(record.connection_id)),
            Self::DownstreamLocalPort => out.number(Some(record.downstream_local.port().into())),
            Self::DownstreamRemotePort => out.number(Some(record.downstream_remote.port().into())),
            Self::ResponseFlags => out.display(&record.flags),
            Self::DownstreamLocal => out.display(&record.downstream_local),
            Self::DownstreamLocalIp => out.display(&record.downstream_local.ip()),
            Self::DownstreamRemote => out.display(&record.downstream_remote),
            Self::DownstreamRemoteIp => out.display(&record.downstream_remote.ip()),
            Self::DownstreamDirectRemote => out.display(&record.downstream_direct_remote),
            Self::DownstreamDirectRemoteIp => out.display(&record.downstream_direct_remote.ip()),
            Self::UpstreamHost => out.address(record.upstream_host),
            Self::UpstreamLocal => out.address(record.upstream_local),
            Self::Protocol => out.bytes(record.protocol.map(str::as_bytes)),
            Self::ResponseCodeDetails => out.words(text(Some(record.details))),
            Self::ConnectionTerminationDetails => out.words(text(record.termination_details)),
            Self::UpstreamTransportFailure => out.words(text(record.transport_failure)),
            Self::UpstreamCluster => out.bytes(record.upstream_cluster.map(str::as_bytes)),
            Self::RequestedServerName => out.bytes(record.server_name.map(str::as_bytes)),
            Self::RouteName => out.bytes(record.route_name.map(str::as_bytes)),
            Self::DownstreamPeerUriSan => out.list(record.peer_uri_sans),
            Self::DownstreamLocalUriSan => out.list(record.local_uri_sans),
            Self::DownstreamPeerSubject => out.bytes(record.peer_subject.map(str::as_bytes)),
            Self::Hostname => out.bytes(Some(hostname().as_bytes())),
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

fn hostname() -> &'static str {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_owned()
    })
}

/// Where a value is written, as text or as a JSON value.
pub(super) struct Output<'a> {
    out: &'a mut Vec<u8>,
    json: bool,
    max: Option<usize>,
}

impl<'a> Output<'a> {
    pub(super) fn text(out: &'a mut Vec<u8>) -> Self {
        Self { out, json: false, max: None }
    }

    pub(super) fn json(out: &'a mut Vec<u8>) -> Self {
        Self { out, json: true, max: None }
    }

    fn bytes(&mut self, value: Option<&[u8]>) {
        let value = value.map(|value| &value[..value.len().min(self.max.unwrap_or(usize::MAX))]);
        match (value, self.json) {
            (Some(value), false) => self.out.extend_from_slice(value),
            (None, false) => self.out.push(b'-'),
            (Some(value), true) => write_json_string(&String::from_utf8_lossy(value), self.out),
            (None, true) => self.out.extend_from_slice(b"null"),
        }
    }

    /// As Envoy does in details and reasons, spaces become underscores in text.
    fn words(&mut self, value: Option<String>) {
        let value = value.map(|value| if self.json { value } else { value.replace(' ', "_") });
        self.bytes(value.as_ref().map(String::as_bytes));
    }

    fn number(&mut self, value: Option<u64>) {
        match value {
            // Writing to a vector can't fail.
            Some(value) => drop(write!(self.out, "{value}")),
            None => self.bytes(None),
        }
    }

    fn display(&mut self, value: &dyn Display) {
        if self.json || self.max.is_some() {
            self.bytes(Some(value.to_string().as_bytes()));
        } else {
            drop(write!(self.out, "{value}"));
        }
    }

    fn address(&mut self, value: Option<SocketAddr>) {
        match value {
            Some(value) => self.display(&value),
            None => self.bytes(None),
        }
    }

    fn list(&mut self, values: &[String]) {
        let joined = (!values.is_empty()).then(|| values.join(","));
        self.bytes(joined.as_ref().map(String::as_bytes));
    }
}

/// Writes a JSON string with its quotes.
pub(super) fn write_json_string(text: &str, out: &mut Vec<u8>) {
    // Writing a string to a vector can't fail.
    drop(serde_json::to_writer(out, text));
}
