//! What tells requests apart (`route.v3.RateLimit.actions`).

use std::net::IpAddr;

use http::HeaderName;
use http::request::Parts as RequestHead;
use ipnet::IpNet;
use weft_filter_api::StreamCx;
use weft_route::HeaderMatcher;

use crate::view::request_view;

/// A key and a value of a descriptor.
pub(super) type Entry = (String, String);

/// `RateLimit`: its actions make one descriptor, or none if one of them has nothing to say.
#[derive(Debug)]
pub(super) struct RateLimit(pub(super) Vec<Action>);

/// `RateLimit.Action`
#[derive(Debug)]
pub(super) enum Action {
    /// `source_cluster`: this proxy's.
    SourceCluster(String),
    /// `request_headers`
    Header { name: HeaderName, key: String, skip: bool },
    /// `query_parameters`
    Query { name: String, key: String, skip: bool },
    /// `remote_address`
    Client,
    /// `masked_remote_address`: lengths for IPv4 and IPv6.
    MaskedClient(u8, u8),
    /// `generic_key`
    Fixed(Entry),
    /// `header_value_match`
    Headers { entry: Entry, matchers: Vec<HeaderMatcher>, expect: bool },
}

impl RateLimit {
    /// The descriptor of a request.
    pub(super) fn entries(&self, cx: &StreamCx, head: &RequestHead) -> Option<Vec<Entry>> {
        let mut entries = Vec::with_capacity(self.0.len());
        for action in &self.0 {
            match action.entry(cx, head) {
                Said::Entry(entry) => entries.push(entry),
                Said::Nothing => {}
                Said::Stop => return None,
            }
        }
        (!entries.is_empty()).then_some(entries)
    }
}

enum Said {
    Entry(Entry),
    /// Left out (`skip_if_absent`).
    Nothing,
    /// Without this there is no descriptor.
    Stop,
}

impl Action {
    fn entry(&self, cx: &StreamCx, head: &RequestHead) -> Said {
        let fixed = |key: &str, value: String| Said::Entry((key.to_owned(), value));
        match self {
            Self::SourceCluster(name) => fixed("source_cluster", name.clone()),
            Self::Header { name, key, skip } => {
                let value = head.headers.get(name).and_then(|value| value.to_str().ok());
                found(key, value, *skip)
            }
            Self::Query { name, key, skip } => {
                let pairs = head.uri.query().unwrap_or_default().split('&');
                let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                found(key, pairs.find(|(key, _)| key == name).map(|(_, value)| value), *skip)
            }
            Self::Client => fixed("remote_address", cx.remote.ip().to_string()),
            Self::MaskedClient(v4, v6) => {
                let ip = cx.remote.ip();
                let length = if matches!(ip, IpAddr::V4(_)) { *v4 } else { *v6 };
                let Ok(net) = IpNet::new(ip, length) else { return Said::Stop };
                fixed("masked_remote_address", net.trunc().to_string())
            }
            Self::Fixed(entry) => Said::Entry(entry.clone()),
            Self::Headers { entry, matchers, expect } => {
                let view = request_view(head);
                if matchers.iter().all(|matcher| matcher.holds(&view)) == *expect {
                    Said::Entry(entry.clone())
                } else {
                    Said::Stop
                }
            }
        }
    }
}

fn found(key: &str, value: Option<&str>, skip: bool) -> Said {
    match value {
        Some(value) if !value.is_empty() => Said::Entry((key.to_owned(), value.to_owned())),
        _ if skip => Said::Nothing,
        _ => Said::Stop,
    }
}
