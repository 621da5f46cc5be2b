//! One request over a pooled connection.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use http::header::UPGRADE;
use http::response::Parts as ResponseParts;
use http::{Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use weft_codec::SendFailed;
use weft_codec::http2::Protocol as Extended;
use weft_filter_api::Protocol;

use crate::body::{Inner, UpstreamBody};
use crate::cluster::{Picked, WorkerCluster};
use crate::error::{SendError, UpstreamError, exchange_failed};
use crate::exchange::Exchange;
use crate::host::Host;
use crate::pool::{Checkout, Lease, Reply, Sent, Waiting};
use crate::{RequestBody, request};

/// A response's head, its body, and the connection that it came over.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// The response's head.
    pub head: ResponseParts,
    /// Its body. For `101`, [`UpstreamBody::upgrade`] gives the connection.
    pub body: UpstreamBody,
    /// Our address; none on a Unix domain socket.
    pub local: Option<SocketAddr>,
    /// The upstream's address; none on a Unix domain socket.
    pub remote: Option<SocketAddr>,
    /// What was spoken.
    pub protocol: Protocol,
    /// Whether the connection had served a request before.
    pub reused: bool,
}

/// A response is large, and stays where it was put until it has been sent on.
type Outcome = Result<Box<UpstreamResponse>, SendError>;

impl WorkerCluster {
    /// Sends a request on a pooled or a new connection; the future gives the response's head. The
    /// request's target and `Host` are brought into the form of the upstream's protocol.
    ///
    /// A connection that turns out to be dead before it has answered is replaced once, if it had
    /// been used before and the request can be sent again: nothing of it was sent, or it has no
    /// body that is used up and an idempotent method. Dropping the future ends the exchange.
    ///
    /// # Errors
    /// [`SendError`], with the request where nothing of it was sent.
    pub fn send<'a>(
        &'a self,
        picked: &'a Picked,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Outcome> + use<'a> {
        let cluster = self.owner(picked);
        Sending { cluster, picked, state: cluster.begin(picked, request) }
    }

    /// Does at once what needs no waiting; what is rare goes into a box, so that the usual
    /// exchange has a small future.
    fn begin<'a>(
        &'a self,
        picked: &'a Picked,
        mut request: Request<RequestBody>,
    ) -> State<'a, impl Future<Output = Reply> + use<>> {
        let host = &picked.member.host;
        let exchange = match Exchange::begin(&self.cx, host, picked.high) {
            Ok(exchange) => exchange,
            Err(error) => return State::refused(error, request),
        };
        let pool = host.pool(&self.cx, &picked.key());
        let mut lease = match pool.checkout(false) {
            Ok(Checkout::Ready(lease)) => lease,
            Ok(Checkout::Wait(waiting)) => {
                let slow = self.slowly(picked, exchange, request, Some(waiting));
                return State::Later { future: Box::pin(slow) };
            }
            Err(error) => return State::refused(error, request),
        };
        let spare = lease.stale.then(|| copy(&request)).flatten().map(Box::new);
        let connect = *request.method() == Method::CONNECT;
        shape(&lease, &mut request);
        let sent = lease.send(request);
        State::First { sent, attempt: Some(Attempt { lease, exchange, spare, connect }) }
    }

    /// Waits for a connection: for the place in the queue that it has, or, as a second try, for
    /// one that was not idle.
    async fn slowly(
        &self,
        picked: &Picked,
        mut exchange: Exchange,
        mut request: Request<RequestBody>,
        mut waiting: Option<Waiting>,
    ) -> Outcome {
        loop {
            let last = waiting.is_none();
            let lease = match waiting.take().map_or_else(|| self.queue(picked), Ok) {
                Ok(waiting) => waiting.lease().await,
                Err(error) => Err(error),
            };
            let mut lease = match lease {
                Ok(lease) => lease,
                Err(error) => {
                    self.no_answer(&picked.member.host, &error);
                    return Err(SendError::unsent(error, request));
                }
            };
            let connect = *request.method() == Method::CONNECT;
            shape(&lease, &mut request);
            let mut sent = pin!(lease.send(request));
            let reply = poll_fn(|cx| sent.as_mut().poll(&mut lease, cx)).await;
            let attempt = Attempt { lease, exchange, spare: None, connect };
            match reply {
                Ok(response) => return Ok(self.answered(response, attempt)),
                Err(error) => {
                    let again = self.failed(error, attempt, last)?;
                    (request, exchange) = (again.0, again.1);
                }
            }
        }
    }

    fn queue(&self, picked: &Picked) -> Result<Waiting, UpstreamError> {
        match picked.member.host.pool(&self.cx, &picked.key()).checkout(true)? {
            Checkout::Wait(waiting) => Ok(waiting),
            Checkout::Ready(_) => Err(UpstreamError::ConnectionClosed { reused: true }),
        }
    }

    fn answered(&self, response: Response<Inner>, attempt: Attempt) -> Box<UpstreamResponse> {
        let Attempt { lease, exchange, spare: _, connect } = attempt;
        let status = response.status().as_u16();
        self.cx.stats().count_status(status);
        self.cx.answered(exchange.host(), status, response.headers());
        let (facts, protocol) = lease.facts();
        let (local, remote, reused) = (facts.local, facts.remote, lease.reused);
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS
            || connect && response.status().is_success();
        let place = Box::new_uninit();
        let (head, body) = response.into_parts();
        let body = UpstreamBody::new(body, switching, lease, exchange);
        Box::write(place, UpstreamResponse { head, body, local, remote, protocol, reused })
    }

    fn no_answer(&self, host: &Host, error: &UpstreamError) {
        host.counters.rq_error.inc();
        self.cx.report(host, |report| report.failed(error));
    }

    /// The request, if it may be sent again over another connection.
    fn failed(
        &self,
        failed: SendFailed<Request<RequestBody>>,
        attempt: Attempt,
        last: bool,
    ) -> Result<(Request<RequestBody>, Exchange), SendError> {
        let Attempt { lease, exchange, spare, connect: _ } = attempt;
        let SendFailed { error, unsent } = failed;
        if unsent.is_some() {
            lease.refuses_more();
        }
        if !last
            && lease.reused
            && let Some(request) = unsent
        {
            return Ok((*request, exchange));
        }
        let error = exchange_failed(&error, lease.reused);
        match (&error, spare) {
            (UpstreamError::ConnectionClosed { .. }, Some(spare)) => {
                return Ok((*spare, exchange));
            }
            (UpstreamError::Reset { .. }, _) => self.cx.stats().rq_rx_reset.inc(),
            (UpstreamError::Protocol { .. }, _) => self.cx.stats().cx_protocol_error.inc(),
            _ => {}
        }
        self.no_answer(exchange.host(), &error);
        Err(SendError { error, request: unsent })
    }
}

/// A request on its way, with all that is given back when it ends.
struct Attempt {
    lease: Lease,
    exchange: Exchange,
    /// A second copy of a request whose connection may be dead.
    spare: Option<Box<Request<RequestBody>>>,
    /// Whether a good response makes the connection a tunnel.
    connect: bool,
}

pin_project! {
    struct Sending<'a, F> {
        cluster: &'a WorkerCluster,
        picked: &'a Picked,
        #[pin]
        state: State<'a, F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<'a, F> {
        Refused { error: Option<SendError> },
        First { #[pin] sent: Sent<F>, attempt: Option<Attempt> },
        Later { future: Pin<Box<dyn Future<Output = Outcome> + 'a>> },
    }
}

impl<F> State<'_, F> {
    fn refused(error: UpstreamError, request: Request<RequestBody>) -> Self {
        Self::Refused { error: Some(SendError::unsent(error, request)) }
    }
}

impl<F: Future<Output = Reply>> Future for Sending<'_, F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        const DONE: &str = "invariant: a future is not polled after it was ready";
        let mut this = self.project();
        loop {
            let again = match this.state.as_mut().project() {
                StateProjection::Refused { error } => {
                    return Poll::Ready(Err(error.take().expect(DONE)));
                }
                StateProjection::Later { future } => return future.as_mut().poll(cx),
                StateProjection::First { sent, attempt } => {
                    let lease = &mut attempt.as_mut().expect(DONE).lease;
                    let reply = ready!(sent.poll(lease, cx));
                    let attempt = attempt.take().expect(DONE);
                    match reply {
                        Ok(response) => {
                            return Poll::Ready(Ok(this.cluster.answered(response, attempt)));
                        }
                        Err(error) => this.cluster.failed(error, attempt, false),
                    }
                }
            };
            match again {
                Err(error) => return Poll::Ready(Err(error)),
                Ok((request, exchange)) => {
                    let slow = this.cluster.slowly(this.picked, exchange, request, None);
                    this.state.set(State::Later { future: Box::pin(slow) });
                }
            }
        }
    }
}

fn shape(lease: &Lease, request: &mut Request<RequestBody>) {
    match lease.facts() {
        (facts, Protocol::Http2) => {
            let tunnel = matches!(request.body(), RequestBody::Tunnel(_));
            let wanted = tunnel.then(|| request.headers_mut().remove(UPGRADE)).flatten();
            request::for_http2(request, facts.tls);
            if let Some(wanted) = wanted {
                *request.method_mut() = Method::CONNECT;
                request.extensions_mut().insert(Extended(wanted));
            }
        }
        (_, Protocol::Http10 | Protocol::Http11) => {
            if let RequestBody::Tunnel(_) = request.body() {
                *request.body_mut() = RequestBody::Empty;
            }
            request::for_http1(request);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_of_an_exchange_is_small() {
        fn size_of_future<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let size = size_of_future(WorkerCluster::send);
        assert!(size <= 512, "it has {size} bytes");
        let size = size_of::<UpstreamResponse>();
        assert!(size <= 384, "a response has {size} bytes");
    }
}
