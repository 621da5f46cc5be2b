//! A connection, or a stream's room on one, in the hands of one request.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use futures_util::future::{Either, FutureExt, ready};
use http::{Request, Response};
use hyper::client::conn::{TrySendError, http1};
use weft_codec::http2::Client;
use weft_codec::{Incoming, SendFailed};
use weft_filter_api::Protocol;

use super::Pool;
use crate::RequestBody;
use crate::limits::{add, sub};

/// The head of a response; or an error, with the request if nothing of it was sent.
pub(crate) type Reply = Result<Response<Incoming>, SendFailed<Request<RequestBody>>>;

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

/// An HTTP/1 connection.
#[derive(Debug)]
pub(super) struct Http1Connection {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) facts: Rc<ConnectionFacts>,
}

impl Http1Connection {
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }
}

/// An HTTP/2 connection, shared by its streams.
#[derive(Debug)]
pub(super) struct Http2Connection {
    client: Client,
    pub(super) facts: Rc<ConnectionFacts>,
    active: Cell<u32>,
    draining: Cell<bool>,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS` of the upstream, as last seen.
    peer_limit: Cell<u32>,
    /// The tick at which the last stream ended.
    idle_since: Cell<u32>,
}

impl Http2Connection {
    pub(super) fn new(client: Client, facts: Rc<ConnectionFacts>) -> Self {
        let idle_since = Cell::new(facts.born);
        Self {
            client,
            facts,
            active: Cell::new(0),
            draining: Cell::new(false),
            peer_limit: Cell::new(u32::MAX),
            idle_since,
        }
    }

    pub(super) fn set_peer_limit(&self, streams: usize) {
        self.peer_limit.set(u32::try_from(streams).unwrap_or(u32::MAX));
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
        !self.is_finished() && active < limit && active < self.peer_limit.get()
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

    /// Sends a request; the future gives the response's head. Dropped, it ends the exchange.
    pub(crate) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Reply> + use<> {
        add(&self.facts().0.served);
        match &mut self.held {
            Some(Held::Http1 { connection, clean }) => {
                *clean = false;
                Either::Left(connection.sender.try_send_request(request).map(answered))
            }
            Some(Held::Http2(connection)) => Either::Right(match connection.client.send(request) {
                Ok(exchange) => Either::Left(
                    exchange.map(|reply| reply.map_err(|error| SendFailed { error, unsent: None })),
                ),
                Err(failed) => Either::Right(ready(Err(failed))),
            }),
            None => unreachable!("invariant: a lease is emptied only when it is consumed"),
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
        if let Some(Held::Http1 { clean, .. }) = &mut self.held {
            *clean = true;
        }
    }
}

/// hyper's answer as one of ours.
fn answered(
    reply: Result<Response<hyper::body::Incoming>, TrySendError<Request<RequestBody>>>,
) -> Reply {
    let (mut head, body) = reply?.into_parts();
    let body = Incoming::hyper(body, &mut head.extensions);
    Ok(Response::from_parts(head, body))
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
