//! Services that filters call, and where data comes from.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use weft_xds_proto::pb::envoy::config::core::v3::{
    DataSource, GrpcService, HttpUri, data_source::Specifier, grpc_service::TargetSpecifier,
    http_uri::HttpUpstreamType,
};

use super::{FieldError, Within, duration, header_name, header_value};

/// `GrpcService`, compiled.
#[derive(Clone, Debug)]
pub struct GrpcTarget {
    /// `cluster_name`
    pub cluster: String,
    /// `:authority`
    pub authority: String,
    /// `timeout`
    pub timeout: Option<Duration>,
    /// `initial_metadata`
    pub metadata: HeaderMap,
}

/// `HttpUri`, compiled.
#[derive(Clone, Debug)]
pub struct HttpTarget {
    /// `cluster`
    pub cluster: String,
    /// The whole URI.
    pub uri: http::Uri,
    /// `timeout`
    pub timeout: Duration,
}

/// A gRPC service behind a cluster.
///
/// # Errors
/// It is Google's client, no cluster is named, or metadata is no header.
pub fn grpc_service(config: &GrpcService) -> Result<GrpcTarget, FieldError> {
    if config.retry_policy.is_some() {
        return Err(FieldError::unsupported("retry_policy"));
    }
    let envoy = match &config.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(envoy)) => envoy,
        Some(TargetSpecifier::GoogleGrpc(_)) => return Err(FieldError::unsupported("google_grpc")),
        None => return Err(FieldError::missing("envoy_grpc")),
    };
    let cluster = envoy.cluster_name.clone();
    if cluster.is_empty() {
        return Err(FieldError::missing("envoy_grpc.cluster_name"));
    }
    let mut metadata = HeaderMap::new();
    for (index, one) in config.initial_metadata.iter().enumerate() {
        let (name, value) = plain_header(&one.key, one.value.as_bytes(), &one.raw_value)
            .within_item("initial_metadata", index)?;
        metadata.append(name, value);
    }
    let authority = if envoy.authority.is_empty() { &cluster } else { &envoy.authority };
    let timeout = config.timeout.as_ref().map(duration).transpose().within("timeout")?;
    Ok(GrpcTarget {
        authority: host(authority),
        cluster,
        timeout: timeout.filter(|limit| !limit.is_zero()),
        metadata,
    })
}

/// A header without operators.
///
/// # Errors
/// It is no header.
pub fn plain_header(
    name: &str,
    value: &[u8],
    raw: &[u8],
) -> Result<(HeaderName, HeaderValue), FieldError> {
    let value = if raw.is_empty() { value } else { raw };
    Ok((header_name(name).within("key")?, header_value(value).within("value")?))
}

/// What may stand as an authority: names of clusters may not (`outbound|80||a.b`).
fn host(name: &str) -> String {
    match name.parse::<http::uri::Authority>() {
        Ok(_) => name.to_owned(),
        Err(_) => name.rsplit('|').next().filter(|host| !host.is_empty()).map_or_else(
            || "localhost".to_owned(),
            |host| match host.parse::<http::uri::Authority>() {
                Ok(_) => host.to_owned(),
                Err(_) => "localhost".to_owned(),
            },
        ),
    }
}

/// An HTTP service behind a cluster.
///
/// # Errors
/// It is no URI with a host, or cluster or timeout are missing.
pub fn http_uri(config: &HttpUri) -> Result<HttpTarget, FieldError> {
    let wrong = || FieldError::at("uri", format!("{:?} is not a URI with a host", config.uri));
    let uri: http::Uri = config.uri.parse().map_err(|_| wrong())?;
    if uri.authority().is_none() {
        return Err(wrong());
    }
    let cluster = match &config.http_upstream_type {
        Some(HttpUpstreamType::Cluster(name)) if !name.is_empty() => name.clone(),
        _ => return Err(FieldError::missing("cluster")),
    };
    let timeout = config.timeout.as_ref().ok_or_else(|| FieldError::missing("timeout"))?;
    Ok(HttpTarget { cluster, uri, timeout: duration(timeout).within("timeout")? })
}

/// The content of a data source, and the field that holds it. Files are read now.
///
/// # Errors
/// The file can't be read, or there is no source.
pub fn data_source(source: &DataSource) -> Result<(&'static str, Vec<u8>), FieldError> {
    Ok(match &source.specifier {
        Some(Specifier::InlineString(text)) => ("inline_string", text.as_bytes().to_vec()),
        Some(Specifier::InlineBytes(bytes)) => ("inline_bytes", bytes.clone()),
        Some(Specifier::Filename(path)) => {
            let read = std::fs::read(path);
            let wrong = |error| FieldError::at("filename", format!("{path}: {error}"));
            ("filename", read.map_err(wrong)?)
        }
        Some(Specifier::EnvironmentVariable(name)) => {
            ("environment_variable", std::env::var(name).unwrap_or_default().into_bytes())
        }
        None => return Err(FieldError::missing("inline_string")),
    })
}
