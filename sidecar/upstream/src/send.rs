//! One request over a pooled connection.

use std::net::SocketAddr;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use weft_filter_api::Protocol;

use crate::body::UpstreamBody;
use crate::cluster::{Picked, WorkerCluster};
use crate::error::{SendError, UpstreamError, exchange_failed};
use crate::exchange::Exchange;
use crate::pool::{Checkout, Lease};
use crate::{RequestBody, request};

/// A response's head, its body, and the connection that it came over.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// The response. For `101` the connection is `hyper::upgrade::on` it; see [`crate::upgraded`].
    pub response: Response<UpstreamBody>,
    /// Our address; none on a Unix domain socket.
    pub local: Option<SocketAddr>,
    /// The upstream's address; none on a Unix domain socket.
    pub remote: Option<SocketAddr>,
    /// What was spoken.
    pub protocol: Protocol,
    /// Whether the connection had served a request before.
    pub reused: bool,
}

impl WorkerCluster {
    /// Sends a request on a pooled or a new connection and waits for the response's head. The
    /// request's target and `Host` are brought into the form of the upstream's protocol.
    ///
    /// A connection that turns out to be dead before it has answered is replaced once, if it had
    /// been used before and the request can be sent again: nothing of it was sent, or it has no
    /// body that is used up and an idempotent method. Dropping the future ends the exchange.
    ///
    /// # Errors
    /// [`SendError`], with the request where nothing of it was sent.
    pub async fn send(
        &self,
        picked: &Picked,
        request: Request<RequestBody>,
    ) -> Result<UpstreamResponse, SendError> {
        let host = &picked.member.host;
        let exchange = match Exchange::begin(&self.cx, host, picked.high) {
            Ok(exchange) => exchange,
            Err(error) => return Err(SendError::unsent(error, request)),
        };
        let pool = host.pool(&self.cx, &picked.key());
        let mut request = request;
        let mut fresh = false;
        loop {
            let lease = match pool.checkout(fresh) {
                Ok(Checkout::Ready(lease)) => Ok(lease),
                Ok(Checkout::Wait(waiting)) => waiting.lease().await,
                Err(error) => Err(error),
            };
            let mut lease = match lease {
                Ok(lease) => lease,
                Err(error) => return Err(SendError::unsent(error, request)),
            };
            let spare = (!fresh && lease.stale).then(|| copy(&request)).flatten();
            shape(&lease, &mut request);
            match lease.send(request).await {
                Ok(response) => return Ok(self.answered(response, lease, exchange)),
                Err(error) => request = self.failed(error, &lease, spare, fresh)?,
            }
            fresh = true;
        }
    }

    fn answered(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        exchange: Exchange,
    ) -> UpstreamResponse {
        self.cx.stats().count_status(response.status().as_u16());
        let (facts, protocol) = lease.facts();
        let (local, remote, reused) = (facts.local, facts.remote, lease.reused);
        let response = response.map(|body| UpstreamBody::new(body, lease, exchange));
        UpstreamResponse { response, local, remote, protocol, reused }
    }

    /// The request, if it may be sent again over another connection.
    fn failed(
        &self,
        mut error: TrySendError<Request<RequestBody>>,
        lease: &Lease,
        spare: Option<Request<RequestBody>>,
        last: bool,
    ) -> Result<Request<RequestBody>, SendError> {
        let unsent = error.take_message();
        if !last
            && lease.reused
            && let Some(request) = unsent
        {
            return Ok(request);
        }
        let error = exchange_failed(&error.into_error(), lease.reused);
        match (&error, spare) {
            (UpstreamError::ConnectionClosed { .. }, Some(spare)) => return Ok(spare),
            (UpstreamError::Reset { .. }, _) => self.cx.stats().rq_rx_reset.inc(),
            _ => {}
        }
        Err(SendError { error, request: unsent.map(Box::new) })
    }
}

fn shape(lease: &Lease, request: &mut Request<RequestBody>) {
    match lease.facts() {
        (facts, Protocol::Http2) => request::for_http2(request, facts.tls),
        (_, Protocol::Http10 | Protocol::Http11) => request::for_http1(request),
    }
}

/// A copy of a request that may be sent twice and costs little to copy.
fn copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    if !idempotent {
        return None;
    }
    let mut copy = Request::new(request.body().replay()?);
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    request.extensions().clone_into(copy.extensions_mut());
    Some(copy)
}
