//! `envoy.filters.http.decompressor`: gives upstreams and clients bodies that they can read.

use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING};
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderValue};
use weft_filter_api::{Flow, HttpFilter, MessageBody, RouteFilterConfig, StreamCx};
use weft_telemetry::Counter;

use crate::coding::Coding;

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// `Decompressor`, compiled.
#[derive(Debug)]
pub(crate) struct Decompressor {
    coding: Coding,
    /// How many times as long as before a body may become.
    ratio: u64,
    requests: Direction,
    responses: Direction,
    /// `advertise_accept_encoding`
    advertises: bool,
}

/// `CommonDirectionConfig`
#[derive(Debug)]
struct Direction {
    enabled: bool,
    /// `ignore_no_transform_header`
    always: bool,
    decompressed: Counter,
    not_decompressed: Counter,
    bytes: [Counter; 2],
}

impl HttpFilter for Decompressor {
    fn sees_responses(&self) -> bool {
        self.responses.enabled
    }

    fn uses_io(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        if self.advertises && self.responses.enabled {
            self.advertise(&mut head.headers);
        }
        if self.requests.enabled && !cx.io().request.is_empty() {
            self.decompress(&self.requests, &mut head.headers, &mut cx.io().request);
        }
        Flow::Continue
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        if !cx.io().response.is_bare() && !cx.io().response.is_empty() {
            self.decompress(&self.responses, &mut head.headers, &mut cx.io().response);
        }
        Flow::Continue
    }
}

impl Decompressor {
    fn advertise(&self, headers: &mut HeaderMap) {
        let name = self.coding.name();
        let known = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        let value = match known {
            Some(known) if known.split([',', ';']).any(|one| one.trim() == name) => return,
            Some(known) if !known.is_empty() => HeaderValue::try_from(format!("{known},{name}")),
            _ => Ok(HeaderValue::from_static(name)),
        };
        if let Ok(value) = value {
            headers.insert(ACCEPT_ENCODING, value);
        }
    }

    fn decompress(&self, direction: &Direction, headers: &mut HeaderMap, body: &mut MessageBody) {
        let no_transform = headers.get_all(CACHE_CONTROL).iter().any(|value| {
            value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("no-transform"))
        });
        let codings = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
        // The last coding is the one that was applied last.
        let (rest, last) =
            codings.map_or(("", ""), |all| all.rsplit_once(',').unwrap_or(("", all)));
        let ours = last.trim().eq_ignore_ascii_case(self.coding.name());
        if !ours || (no_transform && !direction.always) {
            direction.not_decompressed.inc();
            return;
        }
        match HeaderValue::from_str(rest.trim()) {
            Ok(rest) if !rest.is_empty() => drop(headers.insert(CONTENT_ENCODING, rest)),
            _ => drop(headers.remove(CONTENT_ENCODING)),
        }
        direction.decompressed.inc();
        let (coding, ratio, counts) = (self.coding, self.ratio, direction.bytes.clone());
        body.transform(move |body| coding.decompress(body, ratio, counts));
    }
}
