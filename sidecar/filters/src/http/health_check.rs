//! `envoy.filters.http.health_check`: answers health checks here, or remembers for a while what the
//! upstream answered.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use parking_lot::Mutex;
use tokio::time::Instant;
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};
use weft_route::HeaderMatcher;

use crate::view::request_view;

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// `HealthCheck`, compiled.
#[derive(Debug)]
pub(crate) struct HealthCheck {
    mode: Mode,
    /// Which requests are health checks.
    headers: Vec<HeaderMatcher>,
}

#[derive(Debug)]
enum Mode {
    /// Answered here.
    Here,
    /// `pass_through_mode`
    Through,
    /// `cache_time`: passed through, and answered like this meanwhile.
    Cached(Duration, Mutex<Option<(StatusCode, Instant)>>),
}

/// The request is a health check whose answer is to be kept.
#[derive(Clone)]
struct Passed;

impl HttpFilter for HealthCheck {
    fn sees_responses(&self) -> bool {
        matches!(self.mode, Mode::Cached(..))
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let view = request_view(head);
        if !self.headers.iter().all(|matcher| matcher.holds(&view)) {
            return Flow::Continue;
        }
        match &self.mode {
            Mode::Through => Flow::Continue,
            Mode::Here => reply(StatusCode::OK, "health_check_ok"),
            Mode::Cached(time, known) => match *known.lock() {
                Some((status, since)) if since.elapsed() < *time => {
                    reply(status, "health_check_cached")
                }
                _ => {
                    cx.state.insert(Passed);
                    Flow::Continue
                }
            },
        }
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        if let (Mode::Cached(_, known), Some(Passed)) = (&self.mode, cx.state.get()) {
            *known.lock() = Some((head.status, Instant::now()));
        }
        Flow::Continue
    }
}

fn reply(status: StatusCode, details: &'static str) -> Flow<'static> {
    Flow::Reply(LocalReply::text(status, Bytes::new(), details))
}
