//! `envoy.filters.http.compressor`: compresses the bodies of responses for clients that can read
//! them, and of requests for upstreams that can.

use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    TRANSFER_ENCODING, VARY,
};
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderName, HeaderValue};
use weft_filter_api::{Flow, HttpFilter, RouteFilterConfig, StreamCx};
use weft_route::StringMatcher;
use weft_telemetry::Counter;

use crate::coding::Coding;

mod accept;
pub(crate) mod config;
#[cfg(test)]
mod tests;

use accept::Offered;

/// `Compressor`, compiled.
#[derive(Debug)]
pub(crate) struct Compressor {
    coding: Coding,
    /// `choose_first`
    first: bool,
    /// `request_direction_config`; `None`: requests pass as they are.
    requests: Option<Direction>,
    responses: Responses,
}

/// `CommonDirectionConfig`
#[derive(Debug)]
struct Direction {
    enabled: bool,
    /// `min_content_length`
    shortest: u64,
    types: Types,
    stats: Stats,
}

/// Which content types are compressed.
#[derive(Debug)]
enum Types {
    /// `content_type`: without parameters, lower case.
    Listed(Vec<String>),
    /// `content_type_matcher`
    Matching(Vec<StringMatcher>),
}

/// `ResponseDirectionConfig`
#[derive(Debug)]
struct Responses {
    common: Direction,
    /// `disable_on_etag_header`
    not_with_etag: bool,
    /// `weaken_etag_on_compress`
    weaken_etag: bool,
    /// `remove_accept_encoding_header`
    hides: bool,
    /// `uncompressible_response_codes`
    not_these: Vec<u16>,
}

/// `CompressorPerRoute`
#[derive(Debug)]
pub(crate) enum PerRoute {
    /// `disabled`
    Disabled,
    /// `overrides`: whether the upstream is not told what the client accepts.
    Hides(Option<bool>),
}

/// `http.<prefix>.compressor.<library>.<coding>.*`
#[derive(Clone, Debug)]
struct Stats {
    compressed: Counter,
    not_compressed: Counter,
    bytes: [Counter; 2],
}

impl HttpFilter for Compressor {
    fn sees_responses(&self) -> bool {
        true
    }

    fn uses_io(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let route = route.and_then(|route| route.downcast_ref::<PerRoute>());
        if matches!(route, Some(PerRoute::Disabled)) {
            return Flow::Continue;
        }
        let hides = match route {
            Some(PerRoute::Hides(Some(hides))) => *hides,
            _ => self.responses.hides,
        };
        Offered::add(cx, self.coding.name(), &head.headers);
        if hides && self.responses.common.enabled {
            head.headers.remove(ACCEPT_ENCODING);
        }
        let Some(direction) = self.requests.as_ref().filter(|direction| direction.enabled) else {
            return Flow::Continue;
        };
        if cx.io().request.is_empty() {
            return Flow::Continue;
        }
        let fits = direction.fits(&head.headers) && !head.headers.contains_key(CONTENT_ENCODING);
        self.compress(direction, fits, &mut head.headers, &mut cx.io().request);
        Flow::Continue
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let route = route.and_then(|route| route.downcast_ref::<PerRoute>());
        let responses = &self.responses;
        let bare = cx.io().response.is_bare() || cx.io().response.is_empty();
        if matches!(route, Some(PerRoute::Disabled)) || !responses.common.enabled || bare {
            return Flow::Continue;
        }
        let could = self.could_compress(head);
        let fits = could && Offered::chosen(cx, self.first) == Some(self.coding.name());
        if could {
            vary(&mut head.headers);
        }
        if fits && let Some(etag) = head.headers.get(ETAG).cloned() {
            self.mend_etag(&etag, &mut head.headers);
        }
        self.compress(&responses.common, fits, &mut head.headers, &mut cx.io().response);
        Flow::Continue
    }
}

impl Compressor {
    /// Whether a client that can read it would get the response compressed.
    fn could_compress(&self, head: &ResponseHead) -> bool {
        let responses = &self.responses;
        let has = |name: &HeaderName| head.headers.contains_key(name);
        let no_transform = head.headers.get_all(CACHE_CONTROL).iter().any(|value| {
            value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("no-transform"))
        });
        let refused = has(&CONTENT_ENCODING)
            || no_transform
            || (responses.not_with_etag && has(&ETAG))
            || responses.not_these.contains(&head.status.as_u16());
        !refused && responses.common.fits(&head.headers)
    }

    fn mend_etag(&self, etag: &HeaderValue, headers: &mut HeaderMap) {
        if etag.as_bytes().starts_with(b"W/") || etag.as_bytes().starts_with(b"w/") {
            return;
        }
        // A strong one promises the same bytes.
        headers.remove(ETAG);
        if self.responses.weaken_etag
            && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat())
        {
            headers.insert(ETAG, weak);
        }
    }

    fn compress(
        &self,
        direction: &Direction,
        fits: bool,
        headers: &mut HeaderMap,
        body: &mut weft_filter_api::MessageBody,
    ) {
        if !fits {
            direction.stats.not_compressed.inc();
            return;
        }
        direction.stats.compressed.inc();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(self.coding.name()));
        let (coding, counts) = (self.coding, direction.stats.bytes.clone());
        body.transform(move |body| coding.compress(body, counts));
    }
}

impl Direction {
    /// Whether length and type of a message are such that compressing it is worth while.
    fn fits(&self, headers: &HeaderMap) -> bool {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let length = length.and_then(|length| length.parse::<u64>().ok());
        let long = length.is_none_or(|length| length >= self.shortest);
        let coded = headers.get(TRANSFER_ENCODING).is_some_and(|coding| coding != "chunked");
        long && !coded && self.types.include(headers.get(CONTENT_TYPE))
    }
}

impl Types {
    fn include(&self, kind: Option<&HeaderValue>) -> bool {
        // One that says nothing may be anything, as in Envoy.
        let Some(kind) = kind.and_then(|kind| kind.to_str().ok()) else { return true };
        let bare = kind.split(';').next().unwrap_or_default().trim();
        match self {
            Self::Listed(known) => known.iter().any(|one| one.eq_ignore_ascii_case(bare)),
            Self::Matching(known) => known.iter().any(|one| one.matches(bare)),
        }
    }
}

/// Says that the response depends on what the client accepts.
fn vary(headers: &mut HeaderMap) {
    let said = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let said = said.flat_map(|value| value.split(',')).map(str::trim);
    if said.into_iter().any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding")) {
        return;
    }
    let value = match headers.get(VARY).and_then(|value| value.to_str().ok()) {
        Some(known) => HeaderValue::try_from(format!("{known}, Accept-Encoding")),
        None => Ok(HeaderValue::from_static("Accept-Encoding")),
    };
    if let Ok(value) = value {
        headers.insert(VARY, value);
    }
}
