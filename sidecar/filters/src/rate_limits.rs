//! What tells requests apart when they are counted (`route.v3.RateLimit`), for the filters that count
//! here and for those that ask a service.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;
use http::request::Parts as RequestHead;
use ipnet::IpNet;
use weft_filter_api::{RouteRateLimits, StreamCx};
use weft_route::{Conditions, HeaderMatcher};

use crate::view::request_view;

pub(crate) mod config;

/// A key and a value of a descriptor.
pub(crate) type Entry = (String, String);

/// `rate_limits` of a route and its virtual host.
#[derive(Debug)]
pub(crate) struct RouteLimits {
    pub(crate) route: Vec<RateLimit>,
    pub(crate) host: Vec<RateLimit>,
    /// `include_vh_rate_limits`
    pub(crate) include_host: bool,
}

/// Whether the virtual host's limits count (`vh_rate_limits`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HostLimits {
    /// Unless the route has some of its own.
    #[default]
    Override,
    /// Also.
    Include,
    /// Not.
    Ignore,
}

impl RouteLimits {
    /// The limits of the stream's route, where it has some.
    pub(crate) fn of(cx: &StreamCx) -> Option<Arc<Self>> {
        let RouteRateLimits(limits) = cx.state.get()?;
        Arc::clone(limits).downcast().ok()
    }

    /// Those that count.
    pub(crate) fn chosen(&self, host: HostLimits) -> impl Iterator<Item = &RateLimit> {
        let also = match host {
            HostLimits::Override => self.include_host || self.route.is_empty(),
            HostLimits::Include => true,
            HostLimits::Ignore => false,
        };
        self.route.iter().chain(self.host.iter().filter(move |_| also))
    }
}

/// `RateLimit`: its actions make one descriptor, or none if one of them has nothing to say.
#[derive(Debug)]
pub(crate) struct RateLimit {
    pub(crate) stage: u32,
    pub(crate) actions: Vec<Action>,
    /// `hits_addend.number`
    pub(crate) hits: Option<u64>,
}

/// `RateLimit.Action`
#[derive(Debug)]
pub(crate) enum Action {
    /// `source_cluster`: this proxy's.
    SourceCluster(String),
    /// `destination_cluster`: the route's.
    DestinationCluster,
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
    /// `query_parameter_value_match`
    Queries { entry: Entry, conditions: Box<Conditions>, expect: bool },
    /// `metadata` of the source `DYNAMIC`, and `dynamic_metadata`
    Metadata { namespace: String, path: Vec<String>, key: String, usual: String, skip: bool },
}

impl RateLimit {
    /// The descriptor of a request.
    pub(crate) fn entries(&self, cx: &StreamCx, head: &RequestHead) -> Option<Vec<Entry>> {
        let mut entries = Vec::with_capacity(self.actions.len());
        for action in &self.actions {
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
        let when = |holds: bool, entry: &Entry| {
            if holds { Said::Entry(entry.clone()) } else { Said::Stop }
        };
        match self {
            Self::SourceCluster(name) => fixed("source_cluster", name.clone()),
            Self::DestinationCluster => found("destination_cluster", cx.cluster.as_deref(), false),
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
                when(matchers.iter().all(|matcher| matcher.holds(&view)) == *expect, entry)
            }
            Self::Queries { entry, conditions, expect } => {
                when(conditions.hold(&request_view(head)) == *expect, entry)
            }
            Self::Metadata { namespace, path, key, usual, skip } => {
                let all = cx.annotations.as_deref();
                let value = all.and_then(|all| all.find(namespace, path)?.as_str());
                let usual = Some(usual.as_str()).filter(|usual| !usual.is_empty());
                found(key, value.filter(|value| !value.is_empty()).or(usual), *skip)
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
