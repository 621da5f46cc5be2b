//! The HTTP/2 codec, set up as the connection manager says.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use weft_codec::CodecError;
use weft_codec::http2::{Alarm, Pings, Server, ServerOptions};
use weft_model::HttpConnectionManager;
use weft_net::Deadline;
use weft_telemetry::clock;

use super::http1::LINGER;
use super::{Codec, HttpConnection};
use crate::manager;

/// The codec of a connection; its streams are handled by the connection manager.
pub(super) fn http2<T>(connection: &Rc<HttpConnection>, io: T) -> impl Codec
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let shared = Rc::clone(connection);
    let start = move |request, reply: weft_codec::http2::Reply| {
        reply.with(manager::handle(&shared, request))
    };
    let server = Server::new(io, &options(&connection.manager), pings(connection), start);
    Http2 { server: Box::new(server), linger: connection.worker.timers.deadline() }
}

fn options(manager: &HttpConnectionManager) -> ServerOptions {
    let options = &manager.http2;
    ServerOptions {
        stream_window: options.initial_stream_window,
        connection_window: options.initial_connection_window,
        streams: options.max_concurrent_streams,
        header_list: manager.max_header_bytes,
        connect_protocol: options.allow_connect,
    }
}

fn pings(connection: &HttpConnection) -> Option<Pings<Wheel>> {
    connection.manager.http2.keepalive.as_ref().map(|pings| Pings {
        alarm: Wheel(connection.worker.timers.deadline()),
        interval: pings.interval,
        timeout: pings.timeout,
    })
}

/// A deadline on the worker's wheel.
struct Wheel(Deadline);

impl Alarm for Wheel {
    fn set(&mut self, at: Instant) {
        self.0.set(Some(at));
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_due(cx)
    }
}

struct Http2<S> {
    server: Box<S>,
    /// Until when a client that broke the protocol may read what it was told.
    linger: Deadline,
}

impl<T, A, S, F> Codec for Http2<Server<T, A, S, F>>
where
    T: AsyncRead + AsyncWrite + Unpin,
    A: Alarm,
    S: FnMut(http::Request<weft_codec::Incoming>, weft_codec::http2::Reply) -> F,
    F: Future<Output = ()>,
{
    const ANNOUNCES: bool = true;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        let this = self.get_mut();
        let result = this.server.poll(cx);
        if result.is_pending() && this.server.lingers() {
            if this.linger.at().is_none() {
                this.linger.set(clock::now().checked_add(LINGER));
            }
            return this.linger.poll_due(cx).map(Ok);
        }
        result
    }

    fn shut_down(self: Pin<&mut Self>) {
        self.get_mut().server.shut_down();
    }
}
