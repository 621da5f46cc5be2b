//! Where a request came from: `X-Forwarded-*` and what a client must not say about itself.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use weft_filter_api::StreamCx;
use weft_model::XffSettings;

use super::found::Found;
use crate::connection::HttpConnection;
use crate::names;

const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");

/// Finds the client's address and brings the forwarding headers up to date; returns whether the
/// client used https, as far as that is believed.
pub(super) fn trace(
    connection: &HttpConnection,
    stream: &mut StreamCx,
    headers: &mut HeaderMap,
    found: Found,
) -> bool {
    let settings = &connection.manager.xff;
    let known_alone = only_one(headers, settings);
    let secure = connection.is_secure();
    let proto = if secure { HTTPS } else { HTTP };
    let has_proto =
        found.has(Found::FORWARDED_PROTO) && headers.contains_key(names::X_FORWARDED_PROTO);
    let forwarded = found.has(Found::FORWARDED_FOR);
    if !settings.use_remote_address {
        if forwarded && let Some(ip) = nth_from_right(headers, settings.trusted_hops) {
            stream.remote = SocketAddr::new(ip, 0);
        }
        if !has_proto {
            headers.insert(names::X_FORWARDED_PROTO, proto);
        }
        let internal = known_alone && is_internal(settings, stream.remote.ip());
        mark(headers, found, internal, false);
        return if has_proto { is_https(headers) } else { secure };
    }
    let direct = connection.facts.remote;
    if forwarded
        && let Some(hops) = settings.trusted_hops.checked_sub(1)
        && let Some(ip) = nth_from_right(headers, hops)
    {
        stream.remote = SocketAddr::new(ip, 0);
    }
    if !settings.skip_append {
        append(headers, direct.ip());
    }
    let untrusted = settings.trusted_hops == 0;
    let ours = untrusted || !has_proto;
    if ours {
        headers.insert(names::X_FORWARDED_PROTO, proto);
    }
    let wants_port = connection.manager.append_x_forwarded_port;
    if wants_port && (untrusted || !headers.contains_key(names::X_FORWARDED_PORT)) {
        let port = HeaderValue::from(connection.facts.local.port());
        headers.insert(names::X_FORWARDED_PORT, port);
    }
    let internal = known_alone && is_internal(settings, stream.remote.ip());
    mark(headers, found, internal, true);
    if !internal && let Some(address) = text(stream.remote.ip()) {
        headers.insert(names::ENVOY_EXTERNAL_ADDRESS, address);
    }
    if ours { secure } else { is_https(headers) }
}

/// Whether the client's address is the only one that is known: nobody else passed the request on.
fn only_one(headers: &HeaderMap, settings: &XffSettings) -> bool {
    if settings.internal.is_empty() {
        // Nothing is internal: it does not matter.
        return false;
    }
    let mut values = headers.get_all(names::X_FORWARDED_FOR).iter();
    match (values.next(), values.next()) {
        (None, _) => settings.use_remote_address,
        (Some(value), None) => !settings.use_remote_address && !value.as_bytes().contains(&b','),
        (Some(_), Some(_)) => false,
    }
}

fn is_internal(settings: &XffSettings, ip: IpAddr) -> bool {
    settings.internal.iter().any(|range| range.contains(&ip))
}

/// Whether the client used https, as far as the headers are believed.
pub(crate) fn is_https(headers: &HeaderMap) -> bool {
    headers.get(names::X_FORWARDED_PROTO).is_some_and(|proto| proto == "https")
}

/// Says that a request is internal, or takes away what only internal ones may say; at the edge,
/// where clients connect, more than elsewhere.
fn mark(headers: &mut HeaderMap, found: Found, internal: bool, edge: bool) {
    if internal {
        headers.insert(names::ENVOY_INTERNAL, HeaderValue::from_static("true"));
        return;
    }
    if found.has(Found::ENVOY) {
        names::INTERNAL.iter().for_each(|name| drop(headers.remove(name)));
        if edge {
            names::EDGE.iter().for_each(|name| drop(headers.remove(name)));
        }
    }
}

/// The address that stands `skip` places before the last one.
fn nth_from_right(headers: &HeaderMap, skip: u32) -> Option<IpAddr> {
    let skip = usize::try_from(skip).ok()?;
    let values = headers.get_all(names::X_FORWARDED_FOR);
    let mut all = values.iter().filter_map(|value| value.to_str().ok());
    let (first, second) = (all.next()?, all.next());
    let found = match second {
        None => first.rsplit(',').nth(skip)?.trim().to_owned(),
        Some(second) => {
            let rest = all.fold(format!("{first},{second}"), |joined, next| joined + "," + next);
            rest.rsplit(',').nth(skip)?.trim().to_owned()
        }
    };
    parse(&found)
}

/// An address, perhaps with a port or brackets.
fn parse(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn append(headers: &mut HeaderMap, ip: IpAddr) {
    let Some(address) = text(ip) else { return };
    let known = headers.get_all(names::X_FORWARDED_FOR);
    let known: Vec<&[u8]> = known.iter().map(HeaderValue::as_bytes).collect();
    let value = if known.is_empty() {
        address
    } else {
        let mut joined = known.join(&b","[..]);
        joined.push(b',');
        joined.extend_from_slice(address.as_bytes());
        HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)).unwrap_or(address)
    };
    headers.insert(names::X_FORWARDED_FOR, value);
}

fn text(ip: IpAddr) -> Option<HeaderValue> {
    use std::io::Write;
    // The longest address of IPv6 has 45 characters.
    let mut text = [0; 48];
    let mut rest = &mut text[..];
    write!(rest, "{ip}").ok()?;
    let left = rest.len();
    HeaderValue::from_bytes(&text[..48 - left]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(names::X_FORWARDED_FOR, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn addresses_are_counted_from_the_right_over_all_headers() {
        let headers = headers(&["1.1.1.1, 2.2.2.2", "3.3.3.3"]);
        assert_eq!(nth_from_right(&headers, 0), Some("3.3.3.3".parse().unwrap()));
        assert_eq!(nth_from_right(&headers, 2), Some("1.1.1.1".parse().unwrap()));
        assert_eq!(nth_from_right(&headers, 3), None);
    }

    #[test]
    fn an_address_is_appended_to_what_is_there() {
        let mut headers = headers(&["1.1.1.1", "2.2.2.2"]);
        append(&mut headers, "::1".parse().unwrap());
        let values: Vec<_> = headers.get_all(names::X_FORWARDED_FOR).iter().collect();
        assert_eq!(values, ["1.1.1.1,2.2.2.2,::1"]);
    }
}
