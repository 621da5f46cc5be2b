//! `envoy.filters.http.fault`: delays and aborts a part of the requests.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts as RequestHead;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};
use weft_route::{Fraction, HeaderMatcher, RequestView};
use weft_telemetry::ResponseFlag;

pub(crate) mod config;
#[cfg(test)]
mod tests;

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// `HTTPFault`, compiled; a route's takes the place of the filter's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fault {
    delay: Option<(Fraction, Duration)>,
    abort: Option<(Fraction, Abort)>,
    /// Only requests that have these.
    headers: Vec<HeaderMatcher>,
}

/// How a request is aborted.
#[derive(Clone, Debug)]
enum Abort {
    Http(StatusCode, Bytes),
    Grpc(HeaderValue),
}

impl Fault {
    fn concerns(&self, head: &RequestHead) -> bool {
        if self.headers.is_empty() {
            return true;
        }
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        let view = RequestView {
            method: &head.method,
            scheme: head.uri.scheme_str().unwrap_or("http"),
            authority: authority.or(host).unwrap_or_default(),
            path: head.uri.path(),
            query: head.uri.query(),
            headers: &head.headers,
            random: 0,
            around: None,
        };
        self.headers.iter().all(|matcher| matcher.holds(&view))
    }
}

impl Abort {
    fn reply(&self) -> LocalReply {
        let details = Cow::Borrowed("fault_filter_abort");
        match self {
            Self::Http(status, body) => LocalReply::text(*status, body.clone(), details),
            Self::Grpc(status) => {
                let mut headers = HeaderMap::with_capacity(2);
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                headers.insert(GRPC_STATUS.clone(), status.clone());
                LocalReply { status: StatusCode::OK, headers, body: Bytes::new(), details }
            }
        }
    }
}

impl HttpFilter for Fault {
    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let fault = route.and_then(|route| route.downcast_ref::<Self>()).unwrap_or(self);
        let hit = |part: &Fraction| part.contains(fastrand::u64(..));
        let delay = fault.delay.filter(|(part, _)| hit(part)).map(|(_, delay)| delay);
        let abort = fault.abort.as_ref().filter(|(part, _)| hit(part)).map(|(_, abort)| abort);
        if (delay.is_none() && abort.is_none()) || !fault.concerns(head) {
            return Flow::Continue;
        }
        if abort.is_some() && delay.is_none() {
            cx.flags.set(ResponseFlag::FaultInjected);
        }
        let Some(delay) = delay else {
            return abort.map_or(Flow::Continue, |abort| Flow::Reply(abort.reply()));
        };
        cx.flags.set(ResponseFlag::DelayInjected);
        Flow::Await(Box::pin(async move {
            tokio::time::sleep(delay).await;
            let abort = abort?;
            cx.flags.set(ResponseFlag::FaultInjected);
            Some(abort.reply())
        }))
    }
}
