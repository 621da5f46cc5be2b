//! What happens to a request before a route is chosen: it is checked, normalised, and told where
//! it came from.

mod client_cert;
mod found;
mod origin;
mod path;
mod request_id;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, Entry, HOST, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::request::Parts as RequestHead;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use weft_filter_api::LocalReply;
use weft_model::{HttpConnectionManager, StripPort, Underscores};
use weft_telemetry::ResponseFlag;

use crate::names;
use crate::stream::Stream;

use found::Found;
pub(crate) use origin::is_https;

/// How many headers are usually added to a request.
const ADDED_HEADERS: usize = 4;

/// Refusals that are no breach of the protocol in Envoy's books.
const UNFLAGGED: [&str; 2] = [MISSING_HOST, NOT_A_PATH];
const MISSING_HOST: &str = "missing_host_header";
pub(crate) const NOT_A_PATH: &str = "absolute_path_rejected";

/// What was found out about a request besides what its head says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kind {
    /// It asks for another protocol on its connection or, over HTTP/2, its stream.
    pub(crate) upgrade: bool,
    /// It is CONNECT.
    pub(crate) connect: bool,
    /// It is gRPC.
    pub(crate) grpc: bool,
    /// The client used https, as far as its headers are believed.
    pub(crate) https: bool,
    /// It has `x-envoy-*` headers, which may steer the proxy.
    pub(crate) steers: bool,
}

impl Kind {
    /// Whether bytes follow a good answer, of whatever protocol.
    pub(crate) fn tunnels(self) -> bool {
        self.upgrade || self.connect
    }
}

/// Checks and changes a request's head.
///
/// # Errors
/// The reply, where the request is refused or redirected.
pub(crate) fn accept(stream: &mut Stream) -> Result<Kind, Box<LocalReply>> {
    let connection = &*stream.connection;
    let manager = &*connection.manager;
    let head = &mut stream.head;
    let found = Found::among(&head.headers);
    let upgrade = found.has(Found::UPGRADE) && is_upgrade(head);
    let mut checked = check(manager, head, found);
    if checked.is_ok() && found.has(Found::CONNECTION) {
        checked = remove_nominated(&mut head.headers, upgrade);
    }
    if let Err(refusal) = checked {
        if !UNFLAGGED.contains(&&*refusal.details) {
            stream.cx.flags.set(ResponseFlag::DownstreamProtocolError);
        }
        return Err(refusal);
    }
    // Room for what is added below and on the way upstream, made once.
    head.headers.reserve(ADDED_HEADERS);
    if found.has(Found::HOP_BY_HOP) {
        strip_hop_by_hop(&mut head.headers, found, upgrade);
    }
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    if found.has(Found::EXPECT) && !manager.proxy_100_continue {
        strip_expectation(&mut head.headers);
    }
    if manager.strip_dot {
        strip_dot(head);
    }
    if manager.strip_port != StripPort::Never {
        strip_port(head, manager.strip_port, connection.facts.local.port());
    }
    let https = origin::trace(connection, &mut stream.cx, &mut head.headers, found);
    path::normalise(manager, head)?;
    client_cert::forward(connection, &mut head.headers, found);
    if manager.generate_request_id {
        let edge = manager.xff.use_remote_address;
        let replace = edge && !manager.preserve_external_request_id;
        request_id::ensure(&mut head.headers, replace || !found.has(Found::REQUEST_ID));
    }
    if let Some(via) = &manager.via {
        append_via(&mut head.headers, via);
    }
    let grpc = found.has(Found::CONTENT_TYPE) && is_grpc(&head.headers);
    let connect = head.method == Method::CONNECT;
    Ok(Kind { upgrade, connect, grpc, https, steers: found.has(Found::ENVOY) })
}

/// The proxy has met the expectation: it takes the body whether or not the upstream wants it.
fn strip_expectation(headers: &mut HeaderMap) {
    let met = headers.get(EXPECT).map(HeaderValue::as_bytes);
    if met.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        headers.remove(EXPECT);
    }
}

/// Appends a hop to `Via` (RFC 9110, 7.6.3), to the last value where there is one.
pub(crate) fn append_via(headers: &mut HeaderMap, hop: &HeaderValue) {
    let longer = match headers.get_all(VIA).iter().next_back() {
        None => Some(hop.clone()),
        Some(known) => {
            HeaderValue::from_bytes(&[known.as_bytes(), hop.as_bytes()].join(&b", "[..])).ok()
        }
    };
    match (headers.entry(VIA), longer) {
        (Entry::Occupied(mut known), Some(longer)) => {
            if let Some(last) = known.iter_mut().next_back() {
                *last = longer;
            }
        }
        (Entry::Vacant(free), Some(first)) => {
            free.insert(first);
        }
        (_, None) => {}
    }
}

/// Joins the cookies that HTTP/2 may send one by one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.by_ref().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(all) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, all);
    }
}

/// The request's host: of the target, else of the `Host` header.
pub(crate) fn authority(head: &RequestHead) -> &str {
    match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => {
            let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
            host.unwrap_or_default()
        }
    }
}

/// Gives the request another host.
pub(crate) fn set_authority(head: &mut RequestHead, host: &HeaderValue) {
    if head.uri.authority().is_none() {
        head.headers.insert(HOST, host.clone());
        return;
    }
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return };
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.authority = Some(authority);
    head.uri = Uri::from_parts(parts).unwrap_or_default();
}

/// Gives the request another path and query; one that is not valid is left out.
pub(crate) fn set_path(head: &mut RequestHead, path: &str) -> bool {
    let Ok(path) = PathAndQuery::try_from(path) else { return false };
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.path_and_query = Some(path);
    head.uri = Uri::from_parts(parts).unwrap_or_default();
    true
}

fn is_upgrade(head: &RequestHead) -> bool {
    // In HTTP/2 only an extended CONNECT has got such headers.
    matches!(head.version, Version::HTTP_11 | Version::HTTP_2)
        && head.headers.contains_key(UPGRADE)
        && has_token(&head.headers, "upgrade")
        && head.headers.get(UPGRADE).is_some_and(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c"))
}

/// Whether `Connection` lists a word.
fn has_token(headers: &HeaderMap, wanted: &str) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted))
        })
    })
}

/// Whether a content type is one of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.starts_with(b"application/grpc") && matches!(value.get(16), None | Some(b'+' | b';'))
    })
}

fn check(
    manager: &HttpConnectionManager,
    head: &mut RequestHead,
    found: Found,
) -> Result<(), Box<LocalReply>> {
    if head.version == Version::HTTP_10 {
        if !manager.http1.accept_http_10 {
            let (status, text) = (StatusCode::UPGRADE_REQUIRED, "Upgrade Required");
            return Err(Box::new(LocalReply::text(status, text, "low_version")));
        }
        if let Some(host) = &manager.http1.default_host
            && !head.headers.contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(host)
        {
            head.headers.insert(HOST, host);
        }
    }
    if found.has(Found::TRANSFER_ENCODING)
        && head.version < Version::HTTP_2
        && !is_only_chunked(&head.headers)
    {
        return Err(refuse(StatusCode::NOT_IMPLEMENTED, "http1.invalid_transfer_encoding"));
    }
    check_host(head)?;
    if head.method != Method::CONNECT && !head.uri.path().starts_with('/') {
        return Err(refuse(StatusCode::NOT_FOUND, NOT_A_PATH));
    }
    if manager.max_headers < u32::try_from(head.headers.len()).unwrap_or(u32::MAX) {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(refuse(status, "http2.too_many_headers"));
    }
    check_underscores(manager, &mut head.headers)
}

/// Leaves one host: the target's wins over the header (RFC 9112, 3.2.2; RFC 9113, 8.3.1).
fn check_host(head: &mut RequestHead) -> Result<(), Box<LocalReply>> {
    if let Some(authority) = head.uri.authority() {
        if head.version >= Version::HTTP_2 || head.method == Method::CONNECT {
            head.headers.remove(HOST);
            return Ok(());
        }
        let details = match head.uri.scheme_str() {
            Some("http" | "https") => None,
            Some(_) => Some("http1.invalid_scheme"),
            None => Some("http1.codec_error"),
        };
        if let Some(details) = details {
            let reply = LocalReply::text(StatusCode::BAD_REQUEST, "Bad Request", details);
            return Err(Box::new(reply));
        }
        // Who the user is concerns no proxy (RFC 9110, 4.2.4).
        let host = authority.as_str();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let host = HeaderValue::from_str(host).map_err(|_| bad_host())?;
        head.headers.insert(HOST, host);
        let path = head.uri.path_and_query().cloned();
        head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        return Ok(());
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if !host.is_empty() => {
            if host.as_bytes().iter().all(|byte| may_stand_in_host(*byte)) {
                Ok(())
            } else {
                Err(bad_host())
            }
        }
        (Some(_), Some(_)) => Err(bad_host()),
        _ => Err(refuse(StatusCode::BAD_REQUEST, MISSING_HOST)),
    }
}

/// Whether a byte may be part of an authority (RFC 3986, 3.2); `%` and `@` are left to the
/// upstream, as Envoy does.
fn may_stand_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=@".contains(&byte)
}

/// Whether the only coding of the body is the one that the codec takes away.
fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

fn check_underscores(
    manager: &HttpConnectionManager,
    headers: &mut HeaderMap,
) -> Result<(), Box<LocalReply>> {
    if manager.underscores == Underscores::Allow {
        return Ok(());
    }
    let odd: Vec<_> = headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    if !odd.is_empty() && manager.underscores == Underscores::Reject {
        let details = "http1.unexpected_underscore";
        let reply = LocalReply::text(StatusCode::BAD_REQUEST, "Bad Request", details);
        return Err(Box::new(reply));
    }
    for name in odd {
        headers.remove(name);
    }
    Ok(())
}

fn refuse(status: StatusCode, details: &'static str) -> Box<LocalReply> {
    Box::new(LocalReply::text(status, "", details))
}

fn bad_host() -> Box<LocalReply> {
    Box::new(LocalReply::text(StatusCode::BAD_REQUEST, "Bad Request", "http.invalid_authority"))
}

/// Removes what concerns only one connection (RFC 9110, 7.6.1).
fn strip_hop_by_hop(headers: &mut HeaderMap, found: Found, keep_upgrade: bool) {
    if !keep_upgrade {
        if found.has(Found::CONNECTION) {
            headers.remove(CONNECTION);
        }
        headers.remove(UPGRADE);
    }
    headers.remove(names::KEEP_ALIVE);
    headers.remove(names::PROXY_CONNECTION);
    headers.remove(names::HTTP2_SETTINGS);
    if headers.remove(TRANSFER_ENCODING).is_some() {
        // It overrides a length, which must not be passed on (RFC 9112, 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        let trailers = headers.get(TE).and_then(|value| value.to_str().ok());
        let trailers = trailers.is_some_and(|value| {
            value.split(',').any(|token| token.trim().eq_ignore_ascii_case("trailers"))
        });
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(TE);
        }
    }
}

/// Removes the headers that a request's `Connection` names (RFC 9110, 7.6.1).
///
/// # Errors
/// It names what says where the request comes from or goes to: a client must not take that away.
fn remove_nominated(headers: &mut HeaderMap, keep_upgrade: bool) -> Result<(), Box<LocalReply>> {
    const USUAL: [&str; 3] = ["close", "keep-alive", "te"];
    const NEEDED: [&str; 3] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    if keep_upgrade || !headers.contains_key(CONNECTION) {
        return Ok(());
    }
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<String> = values
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .filter(|token| !token.is_empty() && !USUAL.contains(&token.as_str()))
        .collect();
    for name in named {
        if NEEDED.contains(&name.as_str()) {
            let details = "http1.connection_header_rejected";
            let reply = LocalReply::text(StatusCode::BAD_REQUEST, "Bad Request", details);
            return Err(Box::new(reply));
        }
        if name == HOST.as_str() {
            return Err(refuse(StatusCode::BAD_REQUEST, MISSING_HOST));
        }
        headers.remove(name.as_str());
    }
    Ok(())
}

/// An authority's host and its port, where it has one.
fn host_and_port(authority: &str) -> Option<(&str, &str)> {
    let (name, port) = authority.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && (!name.contains(':') || name.ends_with(']'))).then_some((name, port))
}

/// Takes the port off the host; the target of CONNECT has to keep it.
fn strip_port(head: &mut RequestHead, which: StripPort, ours: u16) {
    if head.method == Method::CONNECT {
        return;
    }
    let Some((name, port)) = host_and_port(authority(head)) else { return };
    if which == StripPort::Matching && port.parse() != Ok(ours) {
        return;
    }
    if let Ok(name) = HeaderValue::from_str(name) {
        set_authority(head, &name);
    }
}

/// `strip_trailing_host_dot`
fn strip_dot(head: &mut RequestHead) {
    let host = authority(head);
    let (name, port) = host_and_port(host).map_or((host, None), |(name, port)| (name, Some(port)));
    let Some(name) = name.strip_suffix('.') else { return };
    let stripped = match port {
        Some(port) => HeaderValue::try_from(format!("{name}:{port}")),
        None => HeaderValue::from_str(name),
    };
    if let Ok(stripped) = stripped {
        set_authority(head, &stripped);
    }
}

/// Removes what concerns only the upstream's connection from a response.
pub(crate) fn strip_response(headers: &mut HeaderMap, keep_upgrade: bool) {
    let found = Found::among(headers);
    if found.has(Found::HOP_BY_HOP) {
        strip_hop_by_hop(headers, found, keep_upgrade);
    }
}

#[cfg(test)]
mod tests;
