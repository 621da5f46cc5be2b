//! Hashes for consistent load balancing (`hash_policy`).

use std::net::SocketAddr;

use http::header::COOKIE;
use http::request::Parts as RequestHead;
use weft_model::{HashPolicy, HashSource};
use xxhash_rust::xxh64::xxh64;

/// The hash of a request; `None`: no policy applies.
pub(super) fn of_request(
    policies: &[HashPolicy],
    head: &RequestHead,
    client: SocketAddr,
) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for policy in policies {
        let new = match &policy.source {
            HashSource::Header(name) => {
                let mut values: Vec<&[u8]> =
                    head.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
                values.sort_unstable();
                (!values.is_empty()).then(|| xxh64(&values.concat(), 0))
            }
            HashSource::Cookie { name, .. } => {
                cookie(head, name).map(|value| xxh64(value.as_bytes(), 0))
            }
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
    hash
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
