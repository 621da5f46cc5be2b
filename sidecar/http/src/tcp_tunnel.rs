//! Connections of the TCP proxy that are carried within HTTP requests (`tunneling_config`).

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri};
use weft_codec::Upgraded;
use weft_filter_api::Protocol;
use weft_model::{EndpointAddress, Tunneling};
use weft_telemetry::LogRecord;
use weft_upstream::{
    Picked, RequestBody, UpstreamBody, UpstreamError, UpstreamResponse, WorkerCluster,
};

use crate::callouts::Fed;
use crate::tunnel::{self, Writer};
use crate::upgrade::Far;

/// A tunnel that the upstream has agreed to.
pub(crate) struct Tunnel {
    pub(crate) stream: Upgraded,
    /// What has to live as long as the stream.
    pub(crate) held: Option<UpstreamBody>,
}

/// Asks an upstream for a tunnel.
///
/// # Errors
/// There is no connection, or the upstream does not agree.
pub(crate) async fn open(
    config: &Tunneling,
    cluster: &WorkerCluster,
    picked: &Picked,
    record: &LogRecord<'_>,
) -> Result<Tunnel, UpstreamError> {
    let (request, writer) = request(config, record)
        .ok_or_else(|| refused(picked, "the host that it is to lead to is none"))?;
    let answer = cluster.send(picked, request).await.map_err(|error| error.error)?;
    let UpstreamResponse { head, body, protocol, .. } = *answer;
    if !head.status.is_success() {
        return Err(refused(picked, head.status.as_str()));
    }
    let over_connection = config.post.is_none() && protocol != Protocol::Http2;
    let far = if over_connection { Far::Connection(body) } else { Far::Stream(body, writer) };
    let opened = far.open().await;
    let (stream, held) = opened.map_err(|error| refused(picked, &error.to_string()))?;
    Ok(Tunnel { stream, held })
}

/// A tunnel that was not opened.
pub(crate) fn refused(picked: &Picked, reason: &str) -> UpstreamError {
    let address = picked.address().map_or_else(
        || EndpointAddress::Pipe(picked.hostname().unwrap_or_default().into()),
        EndpointAddress::Socket,
    );
    UpstreamError::ConnectFailed { address, reason: format!("no tunnel: {reason}").into() }
}

/// The request, and where what it carries is written; `None`: the host is none.
fn request(config: &Tunneling, record: &LogRecord<'_>) -> Option<(Request<RequestBody>, Writer)> {
    let host = config.hostname.value(record)?;
    let mut target = http::uri::Parts::default();
    target.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    let (writer, feed) = tunnel::pipe();
    let body = Box::pin(Fed(Box::pin(feed)));
    let (method, body) = match &config.post {
        None => (Method::CONNECT, RequestBody::Tunnel(body)),
        Some(path) => {
            target.scheme = Some(Scheme::HTTP);
            target.path_and_query = PathAndQuery::try_from(path.as_str()).ok();
            (Method::POST, RequestBody::Boxed(body))
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_parts(target).ok()?;
    for set in &config.headers.set {
        let value: Option<HeaderValue> = set.value(record);
        if let Some(value) = value {
            set.action.apply(request.headers_mut(), &set.name, value);
        }
    }
    Some((request, writer))
}
