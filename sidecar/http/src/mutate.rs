//! Header changes that routes, virtual hosts and route tables ask for.

use std::fmt::Write;

use http::header::{Entry, HOST};
use http::request::Parts as RequestHead;
use http::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;
use time::format_description::well_known::iso8601::{self, EncodedConfig, TimePrecision};
use weft_filter_api::StreamCx;
use weft_model::{AppendAction, HeaderMutations, HeaderSet, HeaderTemplate, TemplatePart};

use crate::inbound;

/// What the operators of a template are answered from.
pub(crate) struct Known<'a> {
    pub(crate) stream: &'a StreamCx,
    /// The request's headers; empty where they are gone.
    pub(crate) request: &'a HeaderMap,
    /// The response's status, once there is one.
    pub(crate) status: Option<u16>,
}

/// Changes a request's head.
pub(crate) fn request(changes: &HeaderMutations, head: &mut RequestHead, stream: &StreamCx) {
    for name in &changes.remove {
        head.headers.remove(name);
    }
    for set in &changes.set {
        let known = Known { stream, request: &head.headers, status: None };
        let Some(value) = value(set, &known) else { continue };
        if set.name == HOST {
            inbound::set_authority(head, &value);
        } else {
            put(&mut head.headers, &set.name, value, set.action);
        }
    }
}

/// Changes a response's headers.
pub(crate) fn response(changes: &HeaderMutations, headers: &mut HeaderMap, known: &Known<'_>) {
    for name in &changes.remove {
        headers.remove(name);
    }
    for set in &changes.set {
        if let Some(value) = value(set, known) {
            put(headers, &set.name, value, set.action);
        }
    }
}

/// Whether a change needs the request's headers.
pub(crate) fn reads_request(changes: &HeaderMutations) -> bool {
    changes.set.iter().any(|set| match &set.value {
        HeaderTemplate::Fixed(_) => false,
        HeaderTemplate::Parts(parts) => {
            parts.iter().any(|part| matches!(part, TemplatePart::RequestHeader(_)))
        }
    })
}

fn put(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue, action: AppendAction) {
    match action {
        AppendAction::AppendIfExistsOrAdd => {
            headers.append(name, value);
        }
        AppendAction::OverwriteIfExistsOrAdd => {
            headers.insert(name, value);
        }
        AppendAction::AddIfAbsent => {
            if let Entry::Vacant(place) = headers.entry(name) {
                place.insert(value);
            }
        }
        AppendAction::OverwriteIfExists => {
            if let Entry::Occupied(mut place) = headers.entry(name) {
                place.insert(value);
            }
        }
    }
}

/// The value to set; `None`: it is empty, and empty ones are not kept.
fn value(set: &HeaderSet, known: &Known<'_>) -> Option<HeaderValue> {
    let value = match &set.value {
        HeaderTemplate::Fixed(value) => value.clone(),
        HeaderTemplate::Parts(parts) => {
            let mut text = String::new();
            for part in parts {
                known.write(part, &mut text);
            }
            HeaderValue::try_from(text).ok()?
        }
    };
    (set.keep_empty || !value.is_empty()).then_some(value)
}

impl Known<'_> {
    fn write(&self, part: &TemplatePart, out: &mut String) {
        let facts = &self.stream.connection;
        let peer = facts.tls.as_ref().and_then(|tls| tls.peer.as_ref());
        // Writing to a string does not fail.
        let _ = match part {
            TemplatePart::Text(text) | TemplatePart::Hostname(text) => out.write_str(text),
            TemplatePart::RequestHeader(name) => {
                let value = self.request.get(name).and_then(|value| value.to_str().ok());
                out.write_str(value.unwrap_or_default())
            }
            TemplatePart::DownstreamRemoteAddress => write!(out, "{}", self.stream.remote),
            TemplatePart::DownstreamRemoteAddressWithoutPort => {
                write!(out, "{}", self.stream.remote.ip())
            }
            TemplatePart::DownstreamLocalAddress => write!(out, "{}", facts.local),
            TemplatePart::DownstreamLocalAddressWithoutPort => write!(out, "{}", facts.local.ip()),
            TemplatePart::DownstreamLocalPort => write!(out, "{}", facts.local.port()),
            TemplatePart::DownstreamPeerUriSan => {
                out.write_str(&peer.map_or_else(String::new, |peer| peer.uri_sans.join(",")))
            }
            TemplatePart::DownstreamPeerSubject => {
                out.write_str(peer.map_or("", |peer| peer.subject.as_str()))
            }
            TemplatePart::RequestedServerName => {
                out.write_str(facts.server_name.as_deref().unwrap_or(""))
            }
            TemplatePart::Protocol => out.write_str(self.stream.protocol.as_str()),
            TemplatePart::StartTime => out.write_str(&start_time(self.stream)),
            TemplatePart::UpstreamRemoteAddress => match self.stream.upstream_host {
                Some(address) => write!(out, "{address}"),
                None => Ok(()),
            },
            TemplatePart::ResponseCode => match self.status {
                Some(status) => write!(out, "{status}"),
                None => Ok(()),
            },
            TemplatePart::ResponseFlags => write!(out, "{}", self.stream.flags),
            TemplatePart::ResponseCodeDetails => out.write_str(self.stream.details),
        };
    }
}

/// RFC 3339 with milliseconds.
fn start_time(stream: &StreamCx) -> String {
    const FORMAT: EncodedConfig = iso8601::Config::DEFAULT
        .set_time_precision(TimePrecision::Second { decimal_digits: std::num::NonZeroU8::new(3) })
        .encode();
    let at = OffsetDateTime::from(stream.started_at);
    at.format(&iso8601::Iso8601::<FORMAT>).unwrap_or_default()
}
