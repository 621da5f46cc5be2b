//! Requests that filters send beside the one that they look at.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts as ResponseHead;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use weft_codec::CodecError;
use weft_filter_api::{
    BodyError, BoxedBody, CalloutError, CalloutFuture, CalloutOptions, Callouts, OpeningFuture,
    Trailers,
};
use weft_model::SnapshotWatch;
use weft_upstream::{PickContext, RequestBody, UpstreamBody, Upstreams, WorkerCluster};

/// The clusters of a worker, by name.
pub(crate) struct WorkerCallouts {
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) snapshot: SnapshotWatch,
}

impl WorkerCallouts {
    fn cluster(&self, name: &str) -> Result<Rc<WorkerCluster>, CalloutError> {
        let snapshot = self.snapshot.borrow();
        let handle = snapshot.clusters.get(name);
        let handle = handle.ok_or_else(|| CalloutError::NoCluster(name.into()))?;
        Ok(self.upstreams.cluster(handle))
    }
}

impl Callouts for WorkerCallouts {
    fn send(
        &self,
        cluster: &str,
        request: Request<Bytes>,
        options: CalloutOptions,
    ) -> CalloutFuture {
        let cluster = self.cluster(cluster);
        Box::pin(async move {
            let cluster = cluster?;
            let exchange = async {
                let request = request.map(|content| match content.is_empty() {
                    true => RequestBody::Empty,
                    false => RequestBody::Full(content),
                });
                let (head, body) = send(&cluster, request).await?;
                whole(head, body, options.limit).await
            };
            match tokio::time::timeout(options.timeout, exchange).await {
                Ok(done) => done,
                Err(_) => Err(CalloutError::Timeout(options.timeout)),
            }
        })
    }

    fn open(&self, cluster: &str, request: Request<BoxedBody>, timeout: Duration) -> OpeningFuture {
        let cluster = self.cluster(cluster);
        Box::pin(async move {
            let cluster = cluster?;
            let request = request.map(|body| RequestBody::Boxed(Box::pin(Fed(body))));
            match tokio::time::timeout(timeout, send(&cluster, request)).await {
                Ok(answer) => {
                    let (head, body) = answer?;
                    Ok(Response::from_parts(head, Box::pin(Read(body)) as BoxedBody))
                }
                Err(_) => Err(CalloutError::Timeout(timeout)),
            }
        })
    }
}

async fn send(
    cluster: &WorkerCluster,
    request: Request<RequestBody>,
) -> Result<(ResponseHead, UpstreamBody), CalloutError> {
    let failed = |error: &dyn std::fmt::Display| CalloutError::Failed(Arc::from(error.to_string()));
    let picked = cluster.pick(&PickContext::default()).map_err(|error| failed(&error))?;
    match cluster.send(&picked, request).await {
        Ok(answer) => Ok((answer.head, answer.body)),
        Err(error) => Err(failed(&error.error)),
    }
}

/// Reads an answer to its end.
async fn whole(
    mut head: ResponseHead,
    mut body: UpstreamBody,
    limit: usize,
) -> Result<Response<Bytes>, CalloutError> {
    let mut parts = Parts::default();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| CalloutError::Failed(error.to_string().into()))?;
        parts.add(frame);
        if parts.length > limit {
            return Err(CalloutError::TooLong(limit));
        }
    }
    if let Some(trailers) = parts.trailers.take() {
        head.extensions.insert(Trailers(trailers));
    }
    Ok(Response::from_parts(head, parts.content()))
}

#[derive(Default)]
struct Parts {
    all: Vec<Bytes>,
    length: usize,
    trailers: Option<HeaderMap>,
}

impl Parts {
    fn add(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                self.length += data.len();
                self.all.push(data);
            }
            Err(other) => self.trailers = other.into_trailers().ok(),
        }
    }

    fn content(mut self) -> Bytes {
        if self.all.len() == 1 {
            return self.all.swap_remove(0);
        }
        let mut content = BytesMut::with_capacity(self.length);
        self.all.iter().for_each(|part| content.extend_from_slice(part));
        content.freeze()
    }
}

/// A filter's body on its way to an upstream.
pub(crate) struct Fed(pub(crate) BoxedBody);

impl Body for Fed {
    type Data = Bytes;
    type Error = CodecError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        let frame = ready!(self.0.as_mut().poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(|_| CodecError::Body)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// An upstream's body on its way to a filter.
struct Read(UpstreamBody);

impl Body for Read {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
