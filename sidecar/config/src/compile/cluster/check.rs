//! Active health checks.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use weft_filters::config::{
    FieldError, Within, header_name, header_value, opt_duration, string_matcher,
};
use weft_model::{CheckKind, CheckPace, GrpcCheck, HealthCheck, HttpCheck, StatusRange, TcpCheck};
use weft_xds_proto::Message;
use weft_xds_proto::pb::envoy::config::core::v3::{
    HeaderValueOption, HealthCheck as PbCheck, RequestMethod,
    header_value_option::HeaderAppendAction,
    health_check::{
        GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck,
        payload::Payload as PayloadKind,
    },
};
use weft_xds_proto::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use weft_xds_proto::pb::google::protobuf::Duration as PbDuration;

use crate::compile::endpoint;
use crate::compile::options::number;

/// `no_traffic_interval` when it is not set.
const NO_TRAFFIC: Duration = Duration::from_secs(60);
/// `response_buffer_size` when it is not set, bytes.
const BUFFER: u64 = 1024;

/// Compiles `health_checks`, of which Envoy takes one at most.
pub(super) fn health_check(checks: &[PbCheck]) -> Result<Option<HealthCheck>, FieldError> {
    match checks {
        [] => Ok(None),
        [one] => check(one).map(Some).within_item("health_checks", 0),
        [_, _, ..] => Err(FieldError::at("health_checks", "more than one is not supported")),
    }
}

fn check(config: &PbCheck) -> Result<HealthCheck, FieldError> {
    let kind = match &config.health_checker {
        None => return Err(FieldError::missing("http_health_check")),
        Some(HealthChecker::HttpHealthCheck(http)) => {
            CheckKind::Http(http_check(http).within("http_health_check")?)
        }
        Some(HealthChecker::TcpHealthCheck(tcp)) => {
            CheckKind::Tcp(tcp_check(tcp).within("tcp_health_check")?)
        }
        Some(HealthChecker::GrpcHealthCheck(grpc)) => {
            CheckKind::Grpc(grpc_check(grpc).within("grpc_health_check")?)
        }
        Some(HealthChecker::CustomHealthCheck(_)) => {
            return Err(FieldError::unsupported("custom_health_check"));
        }
    };
    let alpn = config.tls_options.as_ref().map(|options| &options.alpn_protocols);
    let alpn = alpn.filter(|names| !names.is_empty());
    let labels = config.transport_socket_match_criteria.as_ref();
    Ok(HealthCheck {
        timeout: required(config.timeout.as_ref(), "timeout")?,
        pace: pace(config)?,
        unhealthy_threshold: number(config.unhealthy_threshold.as_ref())
            .ok_or_else(|| FieldError::missing("unhealthy_threshold"))?,
        healthy_threshold: number(config.healthy_threshold.as_ref())
            .ok_or_else(|| FieldError::missing("healthy_threshold"))?,
        alt_port: match number(config.alt_port.as_ref()) {
            None => None,
            Some(port) => Some(crate::compile::address::port(port).within("alt_port")?),
        },
        reuse_connection: config.reuse_connection.as_ref().is_none_or(|reuse| reuse.value),
        log_failures: config.always_log_health_check_failures,
        alpn: alpn.map(|names| names.iter().map(|name| name.as_bytes().to_vec()).collect()),
        socket_labels: labels.map(endpoint::labels),
        kind,
        raw: config.encode_to_vec().into(),
    })
}

fn pace(config: &PbCheck) -> Result<CheckPace, FieldError> {
    let interval = required(config.interval.as_ref(), "interval")?;
    let time = |value: Option<&PbDuration>, field, default| match opt_duration(value, field)? {
        Some(Duration::ZERO) => Err(FieldError::at(field, "has to be more than 0")),
        time => Ok(time.unwrap_or(default)),
    };
    let jitter = |value: Option<&PbDuration>, field| {
        opt_duration(value, field).map(Option::unwrap_or_default)
    };
    let no_traffic = time(config.no_traffic_interval.as_ref(), "no_traffic_interval", NO_TRAFFIC)?;
    let unhealthy = time(config.unhealthy_interval.as_ref(), "unhealthy_interval", interval)?;
    Ok(CheckPace {
        interval,
        initial_jitter: jitter(config.initial_jitter.as_ref(), "initial_jitter")?,
        jitter: jitter(config.interval_jitter.as_ref(), "interval_jitter")?,
        jitter_percent: config.interval_jitter_percent,
        no_traffic,
        no_traffic_healthy: time(
            config.no_traffic_healthy_interval.as_ref(),
            "no_traffic_healthy_interval",
            no_traffic,
        )?,
        unhealthy,
        unhealthy_edge: time(
            config.unhealthy_edge_interval.as_ref(),
            "unhealthy_edge_interval",
            unhealthy,
        )?,
        healthy_edge: time(
            config.healthy_edge_interval.as_ref(),
            "healthy_edge_interval",
            interval,
        )?,
    })
}

fn required(value: Option<&PbDuration>, field: &str) -> Result<Duration, FieldError> {
    match opt_duration(value, field)? {
        None => Err(FieldError::missing(field)),
        Some(Duration::ZERO) => Err(FieldError::at(field, "has to be more than 0")),
        Some(time) => Ok(time),
    }
}

fn http_check(config: &HttpHealthCheck) -> Result<HttpCheck, FieldError> {
    if config.send.is_some() {
        return Err(FieldError::unsupported("send"));
    }
    let http2 = match CodecClientType::try_from(config.codec_client_type) {
        Ok(CodecClientType::Http1) => false,
        Ok(CodecClientType::Http2) => true,
        Ok(CodecClientType::Http3) | Err(_) => {
            let reason = format!("{} is not one of HTTP1, HTTP2", config.codec_client_type);
            return Err(FieldError::at("codec_client_type", reason));
        }
    };
    let path = config
        .path
        .parse()
        .map_err(|_| FieldError::at("path", format!("{:?} is not a path", config.path)))?;
    let mut remove = Vec::new();
    for (index, name) in config.request_headers_to_remove.iter().enumerate() {
        remove.push(header_name(name).within_item("request_headers_to_remove", index)?);
    }
    let buffer = config.response_buffer_size.as_ref().map_or(BUFFER, |size| size.value);
    let expected = statuses(&config.expected_statuses, "expected_statuses")?;
    let service = config.service_name_matcher.as_ref().map(string_matcher).transpose();
    Ok(HttpCheck {
        method: method(config.method)?,
        host: host(&config.host).within("host")?,
        path,
        add: headers(&config.request_headers_to_add, "request_headers_to_add")?,
        remove,
        expected: if expected.is_empty() {
            vec![StatusRange { start: 200, end: 201 }]
        } else {
            expected
        },
        retriable: statuses(&config.retriable_statuses, "retriable_statuses")?,
        receive: payloads(&config.receive)?,
        buffer: usize::try_from(buffer).unwrap_or(usize::MAX),
        http2,
        service: service.within("service_name_matcher")?,
    })
}

fn tcp_check(config: &TcpHealthCheck) -> Result<TcpCheck, FieldError> {
    if config.proxy_protocol_config.is_some() {
        return Err(FieldError::unsupported("proxy_protocol_config"));
    }
    let send = config.send.as_ref().map(payload).transpose().within("send")?;
    Ok(TcpCheck { send: send.unwrap_or_default(), receive: payloads(&config.receive)? })
}

fn grpc_check(config: &GrpcHealthCheck) -> Result<GrpcCheck, FieldError> {
    Ok(GrpcCheck {
        service: config.service_name.clone(),
        authority: host(&config.authority).within("authority")?,
        metadata: headers(&config.initial_metadata, "initial_metadata")?,
    })
}

fn host(name: &str) -> Result<Option<HeaderValue>, FieldError> {
    if name.is_empty() { Ok(None) } else { header_value(name.as_bytes()).map(Some) }
}

fn method(value: i32) -> Result<Method, FieldError> {
    match RequestMethod::try_from(value) {
        Ok(RequestMethod::MethodUnspecified | RequestMethod::Get) => Ok(Method::GET),
        Ok(RequestMethod::Connect) => Err(FieldError::at("method", "CONNECT is not allowed")),
        Ok(other) => Method::from_bytes(other.as_str_name().as_bytes())
            .map_err(|_| FieldError::at("method", format!("{value} is not a method"))),
        Err(_) => Err(FieldError::at("method", format!("{value} is not a method"))),
    }
}

fn headers(
    options: &[HeaderValueOption],
    field: &str,
) -> Result<Vec<(HeaderName, HeaderValue, bool)>, FieldError> {
    let mut all = Vec::with_capacity(options.len());
    for (index, option) in options.iter().enumerate() {
        all.push(header(option).within_item(field, index)?);
    }
    Ok(all)
}

#[expect(deprecated, reason = "control planes still send append")]
fn header(option: &HeaderValueOption) -> Result<(HeaderName, HeaderValue, bool), FieldError> {
    let header = option.header.as_ref().ok_or_else(|| FieldError::missing("header"))?;
    let value =
        if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
    let action = HeaderAppendAction::try_from(option.append_action);
    let append = option.append.as_ref().map_or_else(
        || matches!(action, Ok(HeaderAppendAction::AppendIfExistsOrAdd)),
        |append| append.value,
    );
    let name = header_name(&header.key).within("header.key")?;
    Ok((name, header_value(value).within("header.value")?, append))
}

fn statuses(ranges: &[Int64Range], field: &str) -> Result<Vec<StatusRange>, FieldError> {
    let mut all = Vec::with_capacity(ranges.len());
    for (index, range) in ranges.iter().enumerate() {
        let bounds = (u16::try_from(range.start), u16::try_from(range.end));
        match bounds {
            (Ok(start), Ok(end)) if (100..600).contains(&start) && start < end && end <= 600 => {
                all.push(StatusRange { start, end });
            }
            _ => {
                let reason = format!("[{}, {}) is not a range of statuses", range.start, range.end);
                return Err(FieldError::new(reason)).within_item(field, index);
            }
        }
    }
    Ok(all)
}

fn payloads(all: &[Payload]) -> Result<Vec<Bytes>, FieldError> {
    let mut payloads = Vec::with_capacity(all.len());
    for (index, one) in all.iter().enumerate() {
        payloads.push(payload(one).within_item("receive", index)?);
    }
    Ok(payloads)
}

fn payload(payload: &Payload) -> Result<Bytes, FieldError> {
    let wrong = || FieldError::at("text", "is not hexadecimal");
    match &payload.payload {
        None => Err(FieldError::missing("text")),
        Some(PayloadKind::Binary(bytes)) => Ok(bytes.clone().into()),
        Some(PayloadKind::Text(text)) => {
            if text.len() % 2 != 0 || !text.is_ascii() {
                return Err(wrong());
            }
            let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
            let bytes: Result<Vec<u8>, _> =
                pairs.map(|pair| u8::from_str_radix(pair, 16)).collect();
            bytes.map(Bytes::from).map_err(|_| wrong())
        }
    }
}
