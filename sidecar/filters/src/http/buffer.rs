//! `envoy.filters.http.buffer`: a request goes on when all of it is there.

use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use http::request::Parts as RequestHead;
use weft_filter_api::{Flow, HttpFilter, ReadError, RouteFilterConfig, StreamCx};

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// `Buffer`, compiled; the longest body, bytes.
#[derive(Debug)]
pub(crate) struct Buffer(usize);

/// `BufferPerRoute`: `None` does nothing.
#[derive(Debug)]
pub(crate) struct PerRoute(Option<usize>);

impl HttpFilter for Buffer {
    fn uses_io(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let own = route.and_then(|route| route.downcast_ref::<PerRoute>());
        let Some(longest) = own.map_or(Some(self.0), |own| own.0) else { return Flow::Continue };
        if cx.io().request.is_empty() {
            return Flow::Continue;
        }
        Flow::Await(Box::pin(async move {
            let content = match cx.io().request.read(longest).await {
                Ok(content) => content,
                Err(error) => return Some(ReadError::into_reply(error)),
            };
            // With trailers behind it, the body stays in chunks.
            if !content.is_empty() && cx.io().request.trailers().is_none() {
                head.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(content.len()));
            }
            None
        }))
    }
}
