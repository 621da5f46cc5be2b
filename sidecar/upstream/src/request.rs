//! Bringing a request into the shape that the upstream's protocol demands.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};
use http_body::Body;

/// HTTP/1.1: the target is path and query, the authority stands in `Host`.
pub(crate) fn for_http1<B: Body>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_11;
    // Who sends no body where one is usual says so (RFC 9110, 8.6).
    if request.body().is_end_stream()
        && !matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::DELETE | Method::TRACE | Method::CONNECT
        )
    {
        request.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    if *request.method() == Method::CONNECT {
        let host = request.uri().authority().map(|host| HeaderValue::from_str(host.as_str()));
        if let Some(Ok(host)) = host {
            request.headers_mut().entry(HOST).or_insert(host);
        }
        return;
    }
    if request.uri().authority().is_none() {
        return;
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = parts.authority.take()
        && !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    parts.scheme = None;
    let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
}

/// HTTP/2: scheme and authority stand in the target, and nothing is said about the connection
/// (RFC 9113, 8.2.2).
pub(crate) fn for_http2<B>(request: &mut Request<B>, tls: bool) {
    *request.version_mut() = Version::HTTP_2;
    strip_connection_headers(request.headers_mut());
    let host = request.headers_mut().remove(HOST);
    if request.uri().scheme().is_some() && request.uri().authority().is_some() {
        return;
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if parts.authority.is_none() {
        parts.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    }
    if parts.authority.is_some() && *request.method() != Method::CONNECT {
        parts.scheme.get_or_insert(if tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

fn strip_connection_headers(headers: &mut HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        headers.remove(TE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RequestBody;

    fn request(uri: &str, headers: &[(&'static str, &'static str)]) -> Request<RequestBody> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(RequestBody::Empty).unwrap()
    }

    #[test]
    fn an_http2_request_becomes_an_http1_request() {
        let mut request = request("https://foo.com/a?b", &[]);
        for_http1(&mut request);
        assert_eq!(request.uri(), "/a?b");
        assert_eq!(request.headers()[HOST], "foo.com");
        assert_eq!(request.version(), Version::HTTP_11);
    }

    #[test]
    fn an_http1_request_stays_as_it_is() {
        let mut request = request("/a?b", &[("host", "foo.com")]);
        for_http1(&mut request);
        assert_eq!((request.uri().to_string(), request.headers().len()), ("/a?b".into(), 1));
    }

    #[test]
    fn an_http1_request_becomes_an_http2_request() {
        let headers =
            [("host", "foo.com:81"), ("connection", "x"), ("te", "trailers"), ("upgrade", "y")];
        let mut request = request("/a?b", &headers);
        for_http2(&mut request, true);
        assert_eq!(request.uri(), "https://foo.com:81/a?b");
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.headers()[TE], "trailers");
    }
}
