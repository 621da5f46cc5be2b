//! Collectors that records are sent to.

use std::time::Duration;

use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Request};
use weft_filters::config::{FieldError, Within, grpc_service, http_uri, plain_header};
use weft_telemetry::{Envelope, ExportTarget};
use weft_xds_proto::pb::envoy::config::core::v3::{GrpcService, HttpService};

/// How long sending may take unless the service says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// When batches are sent.
#[derive(Clone, Copy)]
pub(super) struct Batching {
    /// Bytes.
    pub(super) size: usize,
    pub(super) flush: Duration,
}

/// A method of a gRPC service.
pub(super) fn grpc(
    config: &GrpcService,
    path: &str,
    envelope: Envelope,
    batching: Batching,
) -> Result<ExportTarget, FieldError> {
    let target = grpc_service(config)?;
    let uri = format!("http://{}{path}", target.authority);
    let mut head = request(&uri, target.metadata)?;
    head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    let timeout = target.timeout.unwrap_or(TIMEOUT);
    Ok(to(target.cluster, head, envelope, timeout, batching))
}

/// A service over HTTP.
pub(super) fn http(
    config: &HttpService,
    content_type: &'static str,
    envelope: Envelope,
    batching: Batching,
) -> Result<ExportTarget, FieldError> {
    let uri = config.http_uri.as_ref().ok_or_else(|| FieldError::missing("http_uri"))?;
    let target = http_uri(uri).within("http_uri")?;
    let mut headers = HeaderMap::new();
    for (index, option) in config.request_headers_to_add.iter().enumerate() {
        let Some(header) = &option.header else { continue };
        let (name, value) = plain_header(&header.key, header.value.as_bytes(), &header.raw_value)
            .within_item("request_headers_to_add", index)?;
        headers.append(name, value);
    }
    let mut head = request(&target.uri.to_string(), headers)?;
    head.headers_mut().entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    Ok(to(target.cluster, head, envelope, target.timeout, batching))
}

/// A path of a cluster, over HTTP.
pub(super) fn path(
    (cluster, host, path): (&str, &str, &str),
    content_type: &'static str,
    envelope: Envelope,
    batching: Batching,
) -> Result<ExportTarget, FieldError> {
    let mut head = request(&format!("http://{host}{path}"), HeaderMap::new())?;
    head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(to(cluster.to_owned(), head, envelope, TIMEOUT, batching))
}

fn request(uri: &str, headers: HeaderMap) -> Result<Request<()>, FieldError> {
    let wrong = |error: http::Error| FieldError::new(format!("{uri:?}: {error}"));
    let mut head = Request::post(uri).body(()).map_err(wrong)?;
    *head.headers_mut() = headers;
    Ok(head)
}

fn to(
    cluster: String,
    head: Request<()>,
    envelope: Envelope,
    timeout: Duration,
    Batching { size, flush }: Batching,
) -> ExportTarget {
    ExportTarget { cluster, head, envelope, timeout, batch: size, flush }
}
