//! `HTTPAccessLogEntry` and `TCPAccessLogEntry`.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName};

use super::{EntryFields, structs};
use crate::access_log::LogRecord;
use crate::export::wire;
use crate::{ResponseFlag, ResponseFlags};

/// `AccessLogType.TcpConnectionEnd` and `DownstreamEnd`
const TCP_END: u64 = 3;
const HTTP_END: u64 = 6;

/// `core.v3.RequestMethod`, from 1 on.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Appends an entry as the field `log_entry`.
pub(super) fn write(fields: &EntryFields, record: &LogRecord<'_>, out: &mut Vec<u8>) {
    wire::message(out, 1, |out| {
        wire::message(out, 1, |out| common(fields, record, out));
        if fields.http {
            wire::number(out, 2, version(record.protocol));
            wire::message(out, 3, |out| request(fields, record, out));
            wire::message(out, 4, |out| response(fields, record, out));
        } else {
            wire::message(out, 2, |out| {
                wire::number(out, 1, record.bytes_received);
                wire::number(out, 2, record.bytes_sent);
            });
        }
    });
}

fn version(protocol: Option<&str>) -> u64 {
    match protocol {
        Some("HTTP/1.0") => 1,
        Some("HTTP/1.1") => 2,
        Some("HTTP/2") => 3,
        _ => 0,
    }
}

fn common(fields: &EntryFields, record: &LogRecord<'_>, out: &mut Vec<u8>) {
    address(out, 2, Some(record.downstream_remote));
    address(out, 3, Some(record.downstream_local));
    if record.tls_version.is_some() {
        wire::message(out, 4, |out| tls(record, out));
    }
    let since = record.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    span(out, 5, Some(since));
    span(out, 6, record.until_request_end);
    span(out, 9, record.until_response);
    span(out, 12, record.duration);
    address(out, 13, record.upstream_host);
    address(out, 14, record.upstream_local);
    wire::text(out, 15, record.upstream_cluster.unwrap_or_default());
    if !record.flags.is_empty() {
        wire::message(out, 16, |out| flags(record.flags, out));
    }
    wire::message(out, 17, |out| {
        for annotations in record.annotations.into_iter().flatten() {
            structs::metadata(annotations, out);
        }
    });
    wire::text(out, 18, record.transport_failure.unwrap_or_default());
    wire::text(out, 19, record.route_name.unwrap_or_default());
    address(out, 20, Some(record.downstream_direct_remote));
    for name in &fields.states {
        let state = record.annotations.iter().flatten().find_map(|all| all.state(name));
        if let Some(state) = state {
            structs::entry(out, 21, name, |out| structs::any(state, out));
        }
    }
    for tag in &fields.tags {
        if let Some(value) = tag.value(record) {
            pair(out, 22, &tag.tag, value.as_bytes());
        }
    }
    span(out, 23, record.duration);
    wire::number(out, 24, record.attempts.into());
    wire::text(out, 25, record.termination_details.unwrap_or_default());
    wire::number(out, 33, if fields.http { HTTP_END } else { TCP_END });
}

fn tls(record: &LogRecord<'_>, out: &mut Vec<u8>) {
    wire::number(
        out,
        1,
        match record.tls_version {
            Some("TLSv1.2") => 3,
            Some("TLSv1.3") => 4,
            _ => 0,
        },
    );
    wire::text(out, 3, record.server_name.unwrap_or_default());
    let names = |out: &mut Vec<u8>, uris: &[String], dns: &[String]| {
        let uris = uris.iter().map(|name| (1, name));
        for (kind, name) in uris.chain(dns.iter().map(|name| (2, name))) {
            wire::message(out, 1, |out| wire::text(out, kind, name));
        }
    };
    wire::message(out, 4, |out| names(out, record.local_uri_sans, &[]));
    wire::message(out, 5, |out| {
        names(out, record.peer_uri_sans, record.peer_dns_sans);
        wire::text(out, 2, record.peer_subject.unwrap_or_default());
    });
}

/// `ResponseFlags`: flags in the order of their fields, but for one that is a message.
fn flags(flags: ResponseFlags, out: &mut Vec<u8>) {
    use ResponseFlag as F;
    const FIELDS: [(ResponseFlag, u8); 26] = [
        (F::FailedLocalHealthCheck, 1),
        (F::NoHealthyUpstream, 2),
        (F::UpstreamRequestTimeout, 3),
        (F::LocalReset, 4),
        (F::UpstreamRemoteReset, 5),
        (F::UpstreamConnectionFailure, 6),
        (F::UpstreamConnectionTermination, 7),
        (F::UpstreamOverflow, 8),
        (F::NoRouteFound, 9),
        (F::DelayInjected, 10),
        (F::FaultInjected, 11),
        (F::RateLimited, 12),
        (F::RateLimitServiceError, 14),
        (F::DownstreamConnectionTermination, 15),
        (F::UpstreamRetryLimitExceeded, 16),
        (F::StreamIdleTimeout, 17),
        (F::InvalidEnvoyRequestHeaders, 18),
        (F::DownstreamProtocolError, 19),
        (F::UpstreamMaxStreamDurationReached, 20),
        (F::NoFilterConfigFound, 22),
        (F::DurationTimeout, 23),
        (F::UpstreamProtocolError, 24),
        (F::NoClusterFound, 25),
        (F::OverloadManager, 26),
        (F::DnsResolutionFailed, 27),
        (F::DownstreamRemoteReset, 28),
    ];
    for (flag, field) in FIELDS {
        wire::number(out, field, flags.has(flag).into());
    }
    if flags.has(F::UnauthorizedExternalService) {
        wire::message(out, 13, |out| wire::number(out, 1, 1));
    }
}

fn request(fields: &EntryFields, record: &LogRecord<'_>, out: &mut Vec<u8>) {
    let of = |name: &str| {
        let value = record.request_headers.and_then(|headers| headers.get(name));
        String::from_utf8_lossy(value.map_or(b"", |value| value.as_bytes())).into_owned()
    };
    let method = METHODS.iter().position(|method| record.method == Some(*method));
    wire::number(out, 1, method.map_or(0, |at| at as u64 + 1));
    wire::text(out, 2, record.scheme.unwrap_or_default());
    wire::text(out, 3, record.authority.unwrap_or_default());
    let path = record.path.unwrap_or_default();
    wire::text(out, 5, path);
    wire::text(out, 6, &of("user-agent"));
    wire::text(out, 7, &of("referer"));
    wire::text(out, 8, &of("x-forwarded-for"));
    wire::text(out, 9, &of("x-request-id"));
    wire::text(out, 10, record.original_path.unwrap_or_default());
    wire::number(out, 11, size(record.request_headers));
    wire::number(out, 12, record.bytes_received);
    headers(out, 13, &fields.request_headers, record.request_headers);
}

fn response(fields: &EntryFields, record: &LogRecord<'_>, out: &mut Vec<u8>) {
    if record.status != 0 {
        wire::message(out, 1, |out| wire::number(out, 1, record.status.into()));
    }
    wire::number(out, 2, size(record.response_headers));
    wire::number(out, 3, record.bytes_sent);
    headers(out, 4, &fields.response_headers, record.response_headers);
    headers(out, 5, &fields.response_trailers, record.response_trailers);
    wire::text(out, 6, record.details);
}

/// Bytes of all names and values.
fn size(headers: Option<&HeaderMap>) -> u64 {
    let all = headers.into_iter().flatten();
    all.map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

fn headers(out: &mut Vec<u8>, field: u8, names: &[HeaderName], headers: Option<&HeaderMap>) {
    let Some(headers) = headers else { return };
    for name in names {
        let values: Vec<_> = headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
        if !values.is_empty() {
            let joined = values.join(&b","[..]);
            pair(out, field, name.as_str(), String::from_utf8_lossy(&joined).as_bytes());
        }
    }
}

/// An entry of a map of strings.
fn pair(out: &mut Vec<u8>, field: u8, key: &str, value: &[u8]) {
    wire::message(out, field, |out| {
        wire::text(out, 1, key);
        wire::bytes(out, 2, value);
    });
}

/// `core.v3.Address`
fn address(out: &mut Vec<u8>, field: u8, address: Option<SocketAddr>) {
    let Some(address) = address else { return };
    wire::message(out, field, |out| {
        wire::message(out, 1, |out| {
            wire::text(out, 2, &address.ip().to_string());
            wire::number(out, 3, address.port().into());
        });
    });
}

/// `Duration`, or a `Timestamp` since 1970.
fn span(out: &mut Vec<u8>, field: u8, duration: Option<Duration>) {
    let Some(duration) = duration else { return };
    wire::message(out, field, |out| {
        wire::number(out, 1, duration.as_secs());
        wire::number(out, 2, duration.subsec_nanos().into());
    });
}
