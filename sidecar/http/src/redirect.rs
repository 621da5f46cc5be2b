//! Redirects (`RedirectAction`, `VirtualHost.require_tls`).

use http::header::LOCATION;
use http::request::Parts as RequestHead;
use http::{HeaderMap, HeaderValue, StatusCode};
use weft_filter_api::LocalReply;
use weft_model::{PathRewrite, Redirect};

use crate::forward::rewritten_path;
use crate::inbound::{authority, is_https};

/// The reply of a redirect.
pub(crate) fn redirect(redirect: &Redirect, head: &RequestHead) -> LocalReply {
    let own = if is_https(&head.headers) { "https" } else { "http" };
    let scheme = redirect.scheme.as_deref().unwrap_or(own);
    let host = host(redirect, authority(head), own, scheme);
    let path = path(redirect, head);
    to(redirect.status, &format!("{scheme}://{host}{path}"))
}

/// The reply that sends a client to https.
pub(crate) fn to_https(head: &RequestHead) -> LocalReply {
    let (host, _) = split_port(authority(head));
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    to(StatusCode::MOVED_PERMANENTLY, &format!("https://{host}{path}"))
}

fn to(status: StatusCode, location: &str) -> LocalReply {
    let mut headers = HeaderMap::new();
    if let Ok(location) = HeaderValue::from_str(location) {
        headers.insert(LOCATION, location);
    }
    LocalReply { status, headers, body: bytes::Bytes::new(), details: "direct_response".into() }
}

/// The host and, where it is not the scheme's own, the port.
fn host(redirect: &Redirect, authority: &str, own: &str, scheme: &str) -> String {
    let (name, port) = split_port(authority);
    let (name, port) = match &redirect.host {
        Some(host) => (host.as_str(), None),
        None => (name, port),
    };
    if let Some(port) = redirect.port {
        return format!("{name}:{port}");
    }
    // A port that stands for the old scheme says nothing about the new one.
    match port {
        Some("80") if scheme != own && own == "http" => name.to_owned(),
        Some("443") if scheme != own && own == "https" => name.to_owned(),
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name, Some(port))
        }
        _ => (authority, None),
    }
}

fn path(redirect: &Redirect, head: &RequestHead) -> String {
    let query = head.uri.query().filter(|_| !redirect.strip_query);
    let path = match &redirect.path {
        PathRewrite::Keep => head.uri.path().to_owned(),
        rewrite => rewritten_path(rewrite, head.uri.path()),
    };
    match query {
        Some(query) if !path.contains('?') => format!("{path}?{query}"),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, proto: &'static str) -> RequestHead {
        let request = http::Request::builder().uri(uri).header("host", "a.com:80");
        request.header("x-forwarded-proto", proto).body(()).unwrap().into_parts().0
    }

    fn example() -> Redirect {
        Redirect {
            scheme: None,
            host: None,
            port: None,
            path: PathRewrite::Keep,
            status: StatusCode::FOUND,
            strip_query: false,
        }
    }

    fn location(redirected: &Redirect, uri: &str) -> String {
        let reply = redirect(redirected, &head(uri, "http"));
        assert_eq!(reply.status, StatusCode::FOUND);
        reply.headers[LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_not_replaced_stays() {
        assert_eq!(location(&example(), "/a?b"), "http://a.com:80/a?b");
        let https = Redirect { scheme: Some("https".into()), ..example() };
        assert_eq!(location(&https, "/a?b"), "https://a.com/a?b");
        let other = Redirect { scheme: Some("ftp".into()), ..example() };
        assert_eq!(location(&other, "/"), "ftp://a.com/");
        let host = Redirect { host: Some("b.org".into()), port: Some(8443), ..example() };
        assert_eq!(location(&host, "/"), "http://b.org:8443/");
    }

    #[test]
    fn paths_are_replaced_and_queries_kept_or_stripped() {
        let with = |matched| PathRewrite::Prefix { matched, with: "/new".into() };
        let whole = Redirect { path: with(None), ..example() };
        assert_eq!(location(&whole, "/old/x?q=1"), "http://a.com:80/new?q=1");
        let prefix = Redirect { path: with(Some(4)), strip_query: true, ..example() };
        assert_eq!(location(&prefix, "/old/x?q=1"), "http://a.com:80/new/x");
        let query = PathRewrite::Prefix { matched: None, with: "/new?own".into() };
        let query = Redirect { path: query, ..example() };
        assert_eq!(location(&query, "/old?q=1"), "http://a.com:80/new?own");
    }

    #[test]
    fn plain_requests_are_sent_to_https() {
        let reply = to_https(&head("/a?b", "http"));
        assert_eq!(reply.headers[LOCATION], "https://a.com/a?b");
    }
}
