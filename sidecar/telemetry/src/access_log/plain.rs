//! The operators without arguments.

use std::net::IpAddr;
use std::time::Duration;

use super::LogRecord;
use super::output::Output;
use crate::flags::ResponseFlag;

macro_rules! plain {
    ($($name:ident = $($text:literal)|+;)*) => {
        /// Operators without arguments.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Plain {
            $($name,)*
        }

        const PLAIN: &[(&str, Plain)] = &[$($(($text, Plain::$name),)+)*];
    };
}

plain! {
    Protocol = "PROTOCOL";
    ResponseCode = "RESPONSE_CODE";
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS";
    ConnectionTerminationDetails = "CONNECTION_TERMINATION_DETAILS";
    ResponseFlags = "RESPONSE_FLAGS";
    ResponseFlagsLong = "RESPONSE_FLAGS_LONG";
    BytesReceived = "BYTES_RECEIVED";
    BytesSent = "BYTES_SENT";
    Duration = "DURATION";
    RequestDuration = "REQUEST_DURATION";
    ResponseDuration = "RESPONSE_DURATION";
    ResponseTxDuration = "RESPONSE_TX_DURATION";
    UpstreamHost = "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS";
    UpstreamHostIp = "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT";
    UpstreamHostPort = "UPSTREAM_REMOTE_PORT";
    UpstreamCluster = "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW";
    UpstreamLocal = "UPSTREAM_LOCAL_ADDRESS";
    UpstreamLocalIp = "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT";
    UpstreamLocalPort = "UPSTREAM_LOCAL_PORT";
    UpstreamTransportFailure = "UPSTREAM_TRANSPORT_FAILURE_REASON";
    UpstreamAttempts = "UPSTREAM_REQUEST_ATTEMPT_COUNT";
    DownstreamLocal = "DOWNSTREAM_LOCAL_ADDRESS";
    DownstreamLocalIp = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT";
    DownstreamLocalPort = "DOWNSTREAM_LOCAL_PORT";
    DownstreamRemote = "DOWNSTREAM_REMOTE_ADDRESS";
    DownstreamRemoteIp = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT";
    DownstreamRemotePort = "DOWNSTREAM_REMOTE_PORT";
    DownstreamDirectRemote = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS";
    DownstreamDirectRemoteIp = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT";
    DownstreamDirectRemotePort = "DOWNSTREAM_DIRECT_REMOTE_PORT";
    DownstreamPeerUriSan = "DOWNSTREAM_PEER_URI_SAN";
    DownstreamPeerDnsSan = "DOWNSTREAM_PEER_DNS_SAN";
    DownstreamPeerSubject = "DOWNSTREAM_PEER_SUBJECT";
    DownstreamPeerDigest = "DOWNSTREAM_PEER_FINGERPRINT_256";
    DownstreamLocalUriSan = "DOWNSTREAM_LOCAL_URI_SAN";
    DownstreamTlsVersion = "DOWNSTREAM_TLS_VERSION";
    DownstreamTlsCipher = "DOWNSTREAM_TLS_CIPHER";
    RequestedServerName = "REQUESTED_SERVER_NAME";
    RouteName = "ROUTE_NAME";
    TraceId = "TRACE_ID";
    StreamId = "STREAM_ID";
    LogType = "ACCESS_LOG_TYPE";
    ConnectionId = "CONNECTION_ID";
    Hostname = "HOSTNAME";
    LocalReplyBody = "LOCAL_REPLY_BODY";
}

impl Plain {
    /// The operator of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        PLAIN.iter().find(|(known, _)| *known == name).map(|(_, plain)| *plain)
    }

    /// Writes the value.
    pub(super) fn write(self, record: &LogRecord<'_>, out: &mut Output<'_>) {
        match self {
            Self::Protocol => out.text(record.protocol),
            Self::ResponseCode => out.number(Some(record.status.into())),
            Self::ResponseCodeDetails => out.words(Some(record.details)),
            Self::ConnectionTerminationDetails => out.words(record.termination_details),
            Self::ResponseFlags => out.display(&record.flags),
            Self::ResponseFlagsLong => out.text(long_flags(record).as_deref()),
            Self::BytesReceived => out.number(Some(record.bytes_received)),
            Self::BytesSent => out.number(Some(record.bytes_sent)),
            Self::Duration => out.number(record.duration.map(millis)),
            Self::RequestDuration => out.number(record.until_request_end.map(millis)),
            Self::ResponseDuration => out.number(record.until_response.map(millis)),
            Self::ResponseTxDuration => {
                let times = record.duration.zip(record.until_response);
                out.number(times.map(|(whole, began)| millis(whole.saturating_sub(began))));
            }
            Self::UpstreamTransportFailure => out.words(record.transport_failure),
            Self::UpstreamAttempts => out.number(Some(record.attempts.into())),
            Self::UpstreamCluster => out.text(record.upstream_cluster),
            Self::RequestedServerName => out.text(record.server_name),
            Self::RouteName => out.text(record.route_name),
            Self::StreamId => {
                let id = record.request_headers.and_then(|headers| headers.get("x-request-id"));
                out.bytes(id.map(http::HeaderValue::as_bytes));
            }
            Self::LogType => {
                let http = record.protocol.is_some();
                out.text(Some(if http { "DownstreamEnd" } else { "TcpConnectionEnd" }));
            }
            Self::TraceId => {
                let trace = record.trace.map(|(trace, _)| format!("{trace:032x}"));
                out.text(trace.as_deref());
            }
            Self::ConnectionId => out.number(Some(record.connection_id)),
            Self::Hostname => out.text(Some(hostname())),
            Self::LocalReplyBody => out.bytes(Some(record.local_reply.unwrap_or_default())),
            Self::DownstreamPeerUriSan => out.list(record.peer_uri_sans),
            Self::DownstreamPeerDnsSan => out.list(record.peer_dns_sans),
            Self::DownstreamPeerSubject => out.text(record.peer_subject),
            Self::DownstreamPeerDigest => out.text(record.peer_digest),
            Self::DownstreamLocalUriSan => out.list(record.local_uri_sans),
            Self::DownstreamTlsVersion => out.text(record.tls_version),
            Self::DownstreamTlsCipher => out.text(record.tls_cipher),
            address => address.write_address(record, out),
        }
    }

    fn write_address(self, record: &LogRecord<'_>, out: &mut Output<'_>) {
        let ip = |out: &mut Output<'_>, ip: Option<IpAddr>| match ip {
            Some(ip) => out.display(&ip),
            None => out.bytes(None),
        };
        let upstream = record.upstream_host;
        let local = record.upstream_local;
        match self {
            Self::UpstreamHost => out.address(upstream),
            Self::UpstreamHostIp => ip(out, upstream.map(|address| address.ip())),
            Self::UpstreamHostPort => out.number(upstream.map(|address| address.port().into())),
            Self::UpstreamLocal => out.address(local),
            Self::UpstreamLocalIp => ip(out, local.map(|address| address.ip())),
            Self::UpstreamLocalPort => out.number(local.map(|address| address.port().into())),
            Self::DownstreamLocal => out.display(&record.downstream_local),
            Self::DownstreamLocalIp => out.display(&record.downstream_local.ip()),
            Self::DownstreamLocalPort => out.number(Some(record.downstream_local.port().into())),
            Self::DownstreamRemote => out.display(&record.downstream_remote),
            Self::DownstreamRemoteIp => out.display(&record.downstream_remote.ip()),
            Self::DownstreamRemotePort => out.number(Some(record.downstream_remote.port().into())),
            Self::DownstreamDirectRemote => out.display(&record.downstream_direct_remote),
            Self::DownstreamDirectRemoteIp => out.display(&record.downstream_direct_remote.ip()),
            Self::DownstreamDirectRemotePort => {
                out.number(Some(record.downstream_direct_remote.port().into()));
            }
            _ => out.bytes(None),
        }
    }
}

fn long_flags(record: &LogRecord<'_>) -> Option<String> {
    let set = ResponseFlag::ALL.into_iter().filter(|flag| record.flags.has(*flag));
    let names: Vec<String> = set.map(|flag| format!("{flag:?}")).collect();
    (!names.is_empty()).then(|| names.join(","))
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

fn hostname() -> &'static str {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_owned()
    })
}
