//! Hashes for consistent load balancing (`hash_policy`).

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderValue;
use http::header::{COOKIE, HOST};
use http::request::Parts as RequestHead;
use regex::Regex;
use smallvec::SmallVec;
use weft_model::{HashPolicy, HashSource};
use weft_route::HeaderField;
use xxhash_rust::xxh64::xxh64;

/// What the policies say about a request.
#[derive(Debug, Default)]
pub(super) struct Affinity {
    /// The hash; `None`: no policy applies.
    pub(super) hash: Option<u64>,
    /// A cookie that the client is given, so that it is known the next time.
    pub(super) cookie: Option<HeaderValue>,
}

/// The affinity of a request.
pub(super) fn of_request(
    policies: &[HashPolicy],
    head: &RequestHead,
    client: SocketAddr,
) -> Affinity {
    let mut hash: Option<u64> = None;
    let mut given = None;
    for policy in policies {
        let new = match &policy.source {
            HashSource::Header { field, rewrite } => header(field, rewrite.as_deref(), head),
            HashSource::Cookie { name, ttl, path } => match (cookie(head, name), ttl) {
                (Some(value), _) => Some(xxh64(value.as_bytes(), 0)),
                (None, None) => None,
                (None, Some(ttl)) => {
                    let value = format!("{:016x}", fastrand::u64(..));
                    given = set_cookie(name, &value, *ttl, path.as_deref());
                    Some(xxh64(value.as_bytes(), 0))
                }
            },
            HashSource::SourceIp => Some(of_client(client)),
            HashSource::Query(name) => query(head, name).map(|value| xxh64(value.as_bytes(), 0)),
        };
        if let Some(new) = new {
            // Rotating keeps equal hashes from cancelling each other.
            hash = Some(hash.map_or(new, |old| old.rotate_left(1) ^ new));
            if policy.terminal {
                break;
            }
        }
    }
    Affinity { hash, cookie: given }
}

/// The hash of a header's values, or of a part of the request's line.
fn header(
    field: &HeaderField,
    rewrite: Option<&(Regex, String)>,
    head: &RequestHead,
) -> Option<u64> {
    let text = match field {
        HeaderField::Name(name) => {
            let mut values: SmallVec<[&[u8]; 4]> =
                head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            values.sort_unstable();
            if values.is_empty() {
                return None;
            }
            Cow::Owned(values.concat())
        }
        HeaderField::Method => Cow::Borrowed(head.method.as_str().as_bytes()),
        HeaderField::Scheme => Cow::Borrowed(head.uri.scheme_str()?.as_bytes()),
        HeaderField::Path => Cow::Borrowed(head.uri.path_and_query()?.as_str().as_bytes()),
        HeaderField::Authority => match head.headers.get(HOST) {
            Some(host) => Cow::Borrowed(host.as_bytes()),
            None => Cow::Borrowed(head.uri.authority()?.as_str().as_bytes()),
        },
    };
    match rewrite {
        None => Some(xxh64(&text, 0)),
        Some((pattern, substitution)) => {
            let text = String::from_utf8_lossy(&text);
            Some(xxh64(pattern.replace_all(&text, substitution).as_bytes(), 0))
        }
    }
}

/// `Set-Cookie` for a new cookie; one that lives for no time is the session's.
fn set_cookie(name: &str, value: &str, ttl: Duration, path: Option<&str>) -> Option<HeaderValue> {
    let mut text = format!("{name}=\"{value}\"");
    if !ttl.is_zero() {
        text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        text.push_str(&format!("; Path={path}"));
    }
    text.push_str("; HttpOnly");
    HeaderValue::try_from(text).ok()
}

/// The hash of a client's address.
pub(crate) fn of_client(client: SocketAddr) -> u64 {
    xxh64(client.ip().to_string().as_bytes(), 0)
}

fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    let values = head.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        Some((key, value.trim_matches('"')))
    });
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn query<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    let mut pairs = head.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&'static str, &'static str)]) -> RequestHead {
        let mut request = http::Request::builder().uri("/?user=7");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn of(sources: Vec<HashSource>, headers: &[(&'static str, &'static str)]) -> Affinity {
        let policies: Vec<_> =
            sources.into_iter().map(|source| HashPolicy { source, terminal: false }).collect();
        of_request(&policies, &head(headers), "10.0.0.1:5".parse().unwrap())
    }

    #[test]
    fn the_same_client_has_the_same_hash() {
        let policy = || vec![HashSource::SourceIp, HashSource::Query("user".into())];
        assert!(of(policy(), &[]).hash.is_some());
        assert_eq!(of(policy(), &[]).hash, of(policy(), &[("x", "y")]).hash);
        assert_ne!(of(policy(), &[]).hash, of(vec![HashSource::SourceIp], &[]).hash);
        let field = HeaderField::Name(http::HeaderName::from_static("x-user"));
        let header = HashSource::Header { field, rewrite: None };
        assert_eq!(of(vec![header], &[]).hash, None);
    }

    #[test]
    fn a_path_is_hashed_without_its_query_where_that_is_cut_off() {
        let path =
            |rewrite| of(vec![HashSource::Header { field: HeaderField::Path, rewrite }], &[]);
        let cut = (Regex::new("\\?.*$").unwrap(), String::new());
        assert_eq!(path(None).hash, Some(xxh64(b"/?user=7", 0)));
        assert_eq!(path(Some(Box::new(cut))).hash, Some(xxh64(b"/", 0)));
    }

    #[test]
    fn a_client_without_the_cookie_is_given_one() {
        let ttl = Some(Duration::from_secs(60));
        let policy = || vec![HashSource::Cookie { name: "id".into(), ttl, path: Some("/".into()) }];
        let first = of(policy(), &[]);
        let cookie = first.cookie.unwrap();
        let cookie = cookie.to_str().unwrap();
        assert!(cookie.ends_with("; Max-Age=60; Path=/; HttpOnly"), "{cookie}");
        let sent: &'static str = cookie.split(';').next().unwrap().to_owned().leak();
        let second = of(policy(), &[("cookie", "a=b"), ("cookie", sent)]);
        assert_eq!((second.hash, second.cookie), (first.hash, None));
    }
}
