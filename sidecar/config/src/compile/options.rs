//! Protocol options that connection managers and clusters share.

use std::time::Duration;

use weft_filters::config::{FieldError, Within, duration};
use weft_model::{Http1Options, Http2Options, KeepalivePings, TcpKeepalive};
use weft_xds_proto::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, KeepaliveSettings, TcpKeepalive as PbKeepalive,
    http1_protocol_options::header_key_format::HeaderFormat,
};
use weft_xds_proto::pb::google::protobuf::{BoolValue, UInt32Value};

/// A flag that is false unless set.
pub(super) fn flag(value: Option<&BoolValue>) -> bool {
    value.is_some_and(|value| value.value)
}

/// A number, where there is one.
pub(super) fn number(value: Option<&UInt32Value>) -> Option<u32> {
    value.map(|value| value.value)
}

/// HTTP/1 options.
pub(super) fn http1(config: Option<&Http1ProtocolOptions>) -> Result<Http1Options, FieldError> {
    let Some(config) = config else { return Ok(Http1Options::default()) };
    let mut options = Http1Options {
        accept_http_10: config.accept_http_10,
        default_host: Some(config.default_host_for_http_10.clone()).filter(|host| !host.is_empty()),
        ..Http1Options::default()
    };
    match config.header_key_format.as_ref().and_then(|format| format.header_format.as_ref()) {
        None => {}
        Some(HeaderFormat::ProperCaseWords(_)) => options.title_case = true,
        Some(HeaderFormat::StatefulFormatter(formatter)) => {
            let config = formatter.typed_config.as_ref().map_or("", |any| any.type_url.as_str());
            if !config.ends_with("preserve_case.v3.PreserveCaseFormatterConfig") {
                let reason = format!("{:?} is not a formatter that Weft knows", formatter.name);
                return Err(FieldError::at("header_key_format.stateful_formatter", reason));
            }
            options.preserve_case = true;
        }
    }
    Ok(options)
}

/// HTTP/2 options, with Envoy's defaults.
pub(super) fn http2(config: Option<&Http2ProtocolOptions>) -> Result<Http2Options, FieldError> {
    let defaults = Http2Options::default();
    let Some(config) = config else { return Ok(defaults) };
    let number = |value: &Option<UInt32Value>, default| number(value.as_ref()).unwrap_or(default);
    let keepalive = config.connection_keepalive.as_ref().map(keepalive).transpose();
    Ok(Http2Options {
        max_concurrent_streams: number(
            &config.max_concurrent_streams,
            defaults.max_concurrent_streams,
        ),
        initial_stream_window: window(number(
            &config.initial_stream_window_size,
            defaults.initial_stream_window,
        ))
        .within("initial_stream_window_size")?,
        initial_connection_window: window(number(
            &config.initial_connection_window_size,
            defaults.initial_connection_window,
        ))
        .within("initial_connection_window_size")?,
        keepalive: keepalive.within("connection_keepalive")?.flatten(),
        allow_connect: config.allow_connect,
    })
}

fn window(size: u32) -> Result<u32, FieldError> {
    if (65_535..=0x7fff_ffff).contains(&size) {
        return Ok(size);
    }
    Err(FieldError::new(format!("{size} is not between 65535 and 2147483647")))
}

fn keepalive(config: &KeepaliveSettings) -> Result<Option<KeepalivePings>, FieldError> {
    let Some(interval) = &config.interval else { return Ok(None) };
    let interval = duration(interval).within("interval")?;
    let timeout = config.timeout.as_ref().ok_or_else(|| FieldError::missing("timeout"))?;
    let timeout = duration(timeout).within("timeout")?;
    Ok((!interval.is_zero()).then_some(KeepalivePings { interval, timeout }))
}

/// TCP keepalive.
pub(super) fn tcp_keepalive(config: &PbKeepalive) -> TcpKeepalive {
    let seconds = |value: Option<&UInt32Value>| {
        number(value).map(|seconds| Duration::from_secs(u64::from(seconds)))
    };
    TcpKeepalive {
        probes: number(config.keepalive_probes.as_ref()),
        time: seconds(config.keepalive_time.as_ref()),
        interval: seconds(config.keepalive_interval.as_ref()),
    }
}
