//! Checks by an HTTP request.

use bytes::{Bytes, BytesMut};
use http::header::{HOST, USER_AGENT};
use http::uri::{Authority, Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use weft_model::{HttpCheck, StatusRange};

use super::link::Link;
use super::passive::IMMEDIATE_FAIL;
use super::standing::Finding;
use super::{HostCheck, contains_in_order};

/// What Envoy calls itself when it checks.
pub(super) const AGENT: HeaderValue = HeaderValue::from_static("Envoy/HC");
const DEGRADED: HeaderName = HeaderName::from_static("x-envoy-degraded");
const CLUSTER: HeaderName = HeaderName::from_static("x-envoy-upstream-healthchecked-cluster");

pub(super) async fn ask(host: &mut HostCheck, check: &HttpCheck) -> Finding {
    let Some(mut link) = host.take_link(check.http2).await else { return Finding::Network };
    let Some(request) = request(host, check) else { return Finding::Network };
    let Some(response) = link.send(request).await else { return Finding::Network };
    let (head, body) = response.into_parts();
    let Some(body) = read(body, check).await else { return Finding::Network };
    host.link = Some(link);
    let response = Response::from_parts(head, body);
    judge(host, check, &response)
}

impl HostCheck {
    /// The connection of the last check, or a new one.
    pub(super) async fn take_link(&mut self, http2: bool) -> Option<Link> {
        if let Some(mut link) = self.link.take()
            && link.is_ready().await
        {
            return Some(link);
        }
        Link::http(&self.cluster, &self.target, http2).await
    }

    /// The host that requests name: the endpoint's, the check's or the cluster's name.
    pub(super) fn name(&self, of_check: Option<&HeaderValue>) -> Option<HeaderValue> {
        match (&self.hostname, of_check) {
            (Some(own), _) => HeaderValue::from_str(own).ok(),
            (None, Some(name)) => Some(name.clone()),
            (None, None) => HeaderValue::from_str(self.cluster.name()).ok(),
        }
    }

    /// The address of a request over HTTP/2.
    pub(super) fn uri(&self, host: &HeaderValue, path: http::uri::PathAndQuery) -> Option<Uri> {
        let config = self.cluster.config();
        let tls = config.socket(self.target.transport).tls().is_some();
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
        // The name of a cluster need not be an authority.
        let authority = Authority::try_from(host.as_bytes()).ok();
        parts.authority = Some(authority.unwrap_or_else(|| Authority::from_static("cluster")));
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).ok()
    }
}

/// Adds or sets headers.
pub(super) fn add(headers: &mut HeaderMap, all: &[(HeaderName, HeaderValue, bool)]) {
    for (name, value, append) in all {
        if *append {
            headers.append(name, value.clone());
        } else {
            headers.insert(name, value.clone());
        }
    }
}

fn request(host: &HostCheck, check: &HttpCheck) -> Option<Request<Full<Bytes>>> {
    let name = host.name(check.host.as_ref())?;
    let mut request = Request::new(Full::default());
    *request.method_mut() = check.method.clone();
    request.headers_mut().insert(USER_AGENT, AGENT);
    if check.http2 {
        *request.uri_mut() = host.uri(&name, check.path.clone())?;
    } else {
        *request.uri_mut() = Uri::from(check.path.clone());
        request.headers_mut().insert(HOST, name);
    }
    add(request.headers_mut(), &check.add);
    for name in &check.remove {
        request.headers_mut().remove(name);
    }
    Some(request)
}

/// The body, as much of it as is looked at.
async fn read(mut body: Incoming, check: &HttpCheck) -> Option<Bytes> {
    let mut kept = BytesMut::new();
    let limit = match (check.receive.is_empty(), check.buffer) {
        (true, _) => 0,
        (false, 0) => usize::MAX,
        (false, limit) => limit,
    };
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.ok()?.data_ref() {
            let room = limit.saturating_sub(kept.len());
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Some(kept.freeze())
}

fn judge(host: &HostCheck, check: &HttpCheck, response: &Response<Bytes>) -> Finding {
    let status = response.status().as_u16();
    let headers = response.headers();
    let within = |ranges: &[StatusRange]| ranges.iter().any(|range| range.contains(status));
    if !within(&check.expected) {
        let excluded = headers.contains_key(IMMEDIATE_FAIL);
        return Finding::Bad { retriable: within(&check.retriable), excluded };
    }
    if !contains_in_order(response.body(), &check.receive) {
        return Finding::Bad { retriable: false, excluded: false };
    }
    if let Some(service) = &check.service {
        host.stats.verify_cluster.inc();
        let said = headers.get(CLUSTER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !service.matches(said) {
            return Finding::Bad { retriable: false, excluded: false };
        }
    }
    Finding::Good { degraded: headers.contains_key(DEGRADED) }
}
