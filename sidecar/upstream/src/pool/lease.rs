//! A connection, or a stream's room on one, in the hands of one request.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Context, Poll};

use bytes::Bytes;
use futures_util::future::{Either, FutureExt, ready};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use weft_codec::http1::ClientConnection;
use weft_codec::http2::Client;
use weft_codec::{CodecError, Incoming, SendFailed, Upgraded};
use weft_filter_api::Protocol;

use super::Pool;
use super::driver::Open;
use crate::RequestBody;
use crate::body::Inner;
use crate::limits::{add, sub};
use crate::stream::UpstreamStream;

/// The head of a response; or an error, with the request if nothing of it was sent.
pub(crate) type Reply = Result<Response<Inner>, SendFailed<Request<RequestBody>>>;

/// What does not change over a connection's life, and how much it has served.
#[derive(Debug)]
pub(crate) struct ConnectionFacts {
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    /// Whether it is encrypted.
    pub(crate) tls: bool,
    /// The tick at which it was made.
    pub(crate) born: u32,
    /// Requests begun.
    pub(crate) served: Cell<u32>,
}

/// An HTTP/1 connection: there is no task for it; whoever holds it drives it.
#[derive(Debug)]
pub(super) struct Http1Connection {
    pub(super) client: Box<ClientConnection<UpstreamStream, RequestBody>>,
    pub(super) facts: Rc<ConnectionFacts>,
    /// Counts it among the pool's; told when the connection has been closed.
    pub(super) _open: Open,
}

impl Http1Connection {
    /// Whether it can serve a request: the upstream has not closed it.
    pub(super) fn is_usable(&mut self) -> bool {
        self.client.is_usable()
    }
}

/// An HTTP/2 connection, shared by its streams.
#[derive(Debug)]
pub(super) struct Http2Connection {
    client: Client,
    pub(super) facts: Rc<ConnectionFacts>,
    active: Cell<u32>,
    draining: Cell<bool>,
    /// The tick at which the last stream ended.
    idle_since: Cell<u32>,
}

impl Http2Connection {
    pub(super) fn new(client: Client, facts: Rc<ConnectionFacts>) -> Self {
        let idle_since = Cell::new(facts.born);
        Self { client, facts, active: Cell::new(0), draining: Cell::new(false), idle_since }
    }

    /// The upstream said GOAWAY, or the connection is `over`.
    pub(super) fn notice_the_end(&self, over: bool) {
        if over || !self.client.is_open() {
            self.drain();
        }
    }

    /// No more streams; it ends with the last one.
    pub(super) fn drain(&self) {
        self.draining.set(true);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.draining.get()
    }

    pub(super) fn has_room(&self, limit: u32) -> bool {
        let active = self.active.get();
        !self.is_finished() && active < limit && active < self.client.max_streams()
    }

    pub(super) fn idle_since(&self) -> Option<u32> {
        (self.active.get() == 0).then(|| self.idle_since.get())
    }
}

/// The right to send one request. Dropped, it gives a connection that was not used back to its
/// pool and closes an HTTP/1 connection in the middle of an exchange.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Rc<Pool>,
    held: Option<Held>,
    /// Whether the connection had served a request before.
    pub(crate) reused: bool,
    /// Whether it was idle for so long that it may have died unnoticed.
    pub(crate) stale: bool,
}

#[derive(Debug)]
enum Held {
    Http1 { connection: Http1Connection, clean: bool },
    Http2(Rc<Http2Connection>),
}

impl Lease {
    pub(super) fn http1(pool: &Rc<Pool>, connection: Http1Connection) -> Self {
        let reused = connection.facts.served.get() > 0;
        Self {
            pool: Rc::clone(pool),
            held: Some(Held::Http1 { connection, clean: true }),
            reused,
            stale: false,
        }
    }

    pub(super) fn http2(pool: &Rc<Pool>, connection: &Rc<Http2Connection>) -> Self {
        add(&connection.active);
        let reused = connection.facts.served.get() > 0;
        Self {
            pool: Rc::clone(pool),
            held: Some(Held::Http2(Rc::clone(connection))),
            reused,
            stale: false,
        }
    }

    /// The connection's facts and protocol.
    pub(crate) fn facts(&self) -> (&Rc<ConnectionFacts>, Protocol) {
        match &self.held {
            Some(Held::Http1 { connection, .. }) => (&connection.facts, Protocol::Http11),
            Some(Held::Http2(connection)) => (&connection.facts, Protocol::Http2),
            None => unreachable!("invariant: a lease is emptied only when it is consumed"),
        }
    }

    /// Begins to send a request; dropped, what is given ends the exchange.
    pub(crate) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Sent<impl Future<Output = Reply> + use<>> {
        add(&self.facts().0.served);
        match &mut self.held {
            Some(Held::Http1 { connection, clean }) => {
                *clean = false;
                connection.client.start(request);
                Sent::Http1
            }
            Some(Held::Http2(connection)) => {
                let reply = match connection.client.send(request) {
                    Ok(exchange) => Either::Left(exchange.map(shared)),
                    Err(failed) => Either::Right(ready(Err(failed))),
                };
                Sent::Http2 { reply }
            }
            None => unreachable!("invariant: a lease is emptied only when it is consumed"),
        }
    }

    fn http1_client(&mut self) -> Option<&mut ClientConnection<UpstreamStream, RequestBody>> {
        match &mut self.held {
            Some(Held::Http1 { connection, .. }) => Some(&mut *connection.client),
            Some(Held::Http2(_)) | None => None,
        }
    }

    fn poll_http1(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        let Some(client) = self.http1_client() else {
            return Poll::Ready(Err(SendFailed { error: CodecError::Closed, unsent: None }));
        };
        let head = task::ready!(client.poll_response(cx));
        Poll::Ready(head.map(|head| Response::from_parts(head, Inner::Http1)))
    }

    /// The next frame of the body of an HTTP/1 response.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        self.http1_client().map_or(Poll::Ready(None), |client| client.poll_frame(cx))
    }

    /// Whether the body of an HTTP/1 response has ended.
    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.held {
            Some(Held::Http1 { connection, .. }) => connection.client.is_end_stream(),
            Some(Held::Http2(_)) | None => true,
        }
    }

    /// What is left of the body of an HTTP/1 response.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match &self.held {
            Some(Held::Http1 { connection, .. }) => connection.client.size_hint(),
            Some(Held::Http2(_)) | None => SizeHint::with_exact(0),
        }
    }

    /// Takes the connection out of HTTP.
    pub(crate) fn upgrade(&mut self) -> Option<Upgraded> {
        match self.held.take()? {
            Held::Http1 { connection, .. } => Some(connection.client.into_upgraded()),
            shared @ Held::Http2(_) => {
                self.held = Some(shared);
                None
            }
        }
    }

    /// The connection did not take the request: the upstream said GOAWAY or is gone.
    pub(crate) fn refuses_more(&self) {
        if let Some(Held::Http2(connection)) = &self.held {
            connection.drain();
        }
    }

    /// The exchange has ended well: the connection can serve another one.
    pub(crate) fn give_back(mut self) {
        if let Some(Held::Http1 { connection, clean }) = &mut self.held {
            *clean = connection.client.is_reusable();
        }
    }
}

/// The answer from a shared connection.
fn shared(reply: Result<Response<Incoming>, CodecError>) -> Reply {
    match reply {
        Ok(response) => Ok(response.map(Inner::Shared)),
        Err(error) => Err(SendFailed { error, unsent: None }),
    }
}

pin_project! {
    /// A request that is being sent.
    #[project = SentProjection]
    pub(crate) enum Sent<F> {
        /// Over the connection that the lease holds.
        Http1,
        /// Over a shared connection.
        Http2 { #[pin] reply: F },
    }
}

impl<F: Future<Output = Reply>> Sent<F> {
    /// Ready with the response's head.
    pub(crate) fn poll(
        self: Pin<&mut Self>,
        lease: &mut Lease,
        cx: &mut Context<'_>,
    ) -> Poll<Reply> {
        match self.project() {
            SentProjection::Http1 => lease.poll_http1(cx),
            SentProjection::Http2 { reply } => reply.poll(cx),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.held.take() {
            Some(Held::Http1 { connection, clean: true }) => self.pool.offer(connection),
            Some(Held::Http2(connection)) => {
                sub(&connection.active);
                connection.idle_since.set(self.pool.cluster.worker.now());
                self.pool.released(&connection);
            }
            Some(Held::Http1 { clean: false, .. }) | None => {}
        }
    }
}
