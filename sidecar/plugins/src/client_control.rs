//! `client-control`: how large a request's body may be.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Waker, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use serde::Deserialize;
use serde_json::Value;
use weft_filter_api::{BodyError, BoxedBody};

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "client-control",
    22000,
    r#"{
        "type": "object",
        "properties": {"max_body_size": {"type": "integer", "minimum": 0}}
    }"#,
    compile,
)
.with_io(|settings| settings["max_body_size"].as_u64().is_some_and(|limit| limit > 0));

#[derive(Debug, Deserialize)]
struct ClientControl {
    /// Bytes; 0 is no limit.
    max_body_size: Option<u64>,
}

/// A body that breaks off where it becomes too long.
struct Limited {
    body: BoxedBody,
    left: u64,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(decode::<ClientControl>(settings)?))
}

fn too_large() -> Reply {
    Reply::status(413)
}

impl Plugin for ClientControl {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        let Some(limit) = self.max_body_size.filter(|limit| *limit > 0) else {
            return Step::Continue;
        };
        let length = exchange.header("content-length").and_then(|text| text.parse::<u64>().ok());
        match length {
            Some(length) if length > limit => return too_large().into(),
            Some(_) => {}
            None => {
                let body = &mut exchange.cx.io().request;
                if !body.is_empty() {
                    body.watch(|body| Box::pin(Limited { body, left: limit }));
                }
            }
        }
        Step::Continue
    }
}

impl Body for Limited {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Waker<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            other => return other,
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = self.left.checked_sub(length) else {
            let reply = too_large().into_local("client-control", None);
            return Poll::Ready(Some(Err(BodyError::Refused(Box::new(reply)))));
        };
        self.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn a_body_that_says_that_it_is_too_large_is_refused() {
        for (limit, length, passes) in [(5, "5", true), (5, "6", false), (0, "6", true)] {
            let case = Case::new("client-control", json!({"max_body_size": limit}));
            let outcome = case.method("POST", "/").header("content-length", length).run();
            assert_eq!(outcome.passed(), passes, "{limit} {length}");
        }
    }

    #[tokio::test]
    async fn a_body_that_becomes_too_large_breaks_off() {
        for (body, fits) in [("12345", true), ("123456", false)] {
            let case = Case::new("client-control", json!({"max_body_size": 5}));
            let mut outcome = case.method("POST", "/").body(body).run();
            outcome.passes();
            assert_eq!(outcome.read_request_body().await.is_ok(), fits, "{body}");
        }
    }
}
