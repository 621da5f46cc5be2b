//! A request as matchers see it.

use http::header::HOST;
use http::request::Parts as RequestHead;
use http::uri::Authority;
use weft_route::RequestView;

/// The parts of a request's head that matchers ask for.
pub(crate) fn request_view(head: &RequestHead) -> RequestView<'_> {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let authority = head.uri.authority().map(Authority::as_str);
    RequestView {
        method: &head.method,
        scheme: header("x-forwarded-proto").or(head.uri.scheme_str()).unwrap_or("http"),
        authority: authority.or_else(|| header(HOST.as_str())).unwrap_or_default(),
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
        random: 0,
        around: None,
    }
}
