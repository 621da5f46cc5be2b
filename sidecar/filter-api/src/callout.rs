//! Requests that filters send beside the one that they look at.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use thiserror::Error;

use crate::BoxedBody;

/// The longest answer that is read unless a callout says otherwise, bytes.
const USUAL_LIMIT: usize = 16 << 20;

/// How a unary callout is made.
#[derive(Clone, Copy, Debug)]
pub struct CalloutOptions {
    /// How long it may take, from choosing the endpoint to the answer's last byte.
    pub timeout: Duration,
    /// The longest answer that is read, bytes.
    pub limit: usize,
}

impl CalloutOptions {
    /// At most `timeout`, and an answer of at most 16 MiB.
    #[must_use]
    pub fn within(timeout: Duration) -> Self {
        Self { timeout, limit: USUAL_LIMIT }
    }
}

/// The trailers of an answer, among its extensions.
#[derive(Clone, Debug)]
pub struct Trailers(pub HeaderMap);

/// Why a callout has no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CalloutError {
    /// There is no cluster of this name, or it is not warm.
    #[error("there is no cluster {0:?}")]
    NoCluster(Arc<str>),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer is too long.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// No endpoint, no connection, a reset, a body that breaks off.
    #[error("{0}")]
    Failed(Arc<str>),
    /// Nothing can be sent from where the filter runs: outside of a worker.
    #[error("nothing can be sent from here")]
    Nowhere,
}

/// What a unary callout gives.
pub type CalloutFuture = Pin<Box<dyn Future<Output = Result<Response<Bytes>, CalloutError>>>>;
/// What opening a stream gives.
pub type OpeningFuture = Pin<Box<dyn Future<Output = Result<Response<BoxedBody>, CalloutError>>>>;

/// Sends requests to clusters, from the worker that the caller runs on.
///
/// Kept as `Rc<dyn Callouts>` it can be taken to tasks of the worker that outlive the stream
/// (`tokio::task::spawn_local`). Clusters are found by name when a request is sent, so a filter
/// need not say before which it will use. The request's target and `Host` are brought into the form
/// of the upstream's protocol: `http://authority/path` is always right.
pub trait Callouts {
    /// Sends a request and reads the answer whole; trailers are in its extensions ([`Trailers`]).
    fn send(
        &self,
        cluster: &str,
        request: Request<Bytes>,
        options: CalloutOptions,
    ) -> CalloutFuture;

    /// Opens a stream: the future gives the answer's head and body. The request's body is sent
    /// while the future, and then the answer's body, is polled; dropping both ends the exchange.
    /// `timeout` limits the wait for the head alone. A server may answer only after it has seen the
    /// first message: feed the body before waiting.
    fn open(&self, cluster: &str, request: Request<BoxedBody>, timeout: Duration) -> OpeningFuture;
}

/// Callouts where there is no worker: each fails.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl Callouts for Nowhere {
    fn send(&self, _: &str, _: Request<Bytes>, _: CalloutOptions) -> CalloutFuture {
        Box::pin(std::future::ready(Err(CalloutError::Nowhere)))
    }

    fn open(&self, _: &str, _: Request<BoxedBody>, _: Duration) -> OpeningFuture {
        Box::pin(std::future::ready(Err(CalloutError::Nowhere)))
    }
}
