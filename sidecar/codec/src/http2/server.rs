//! The server's end of a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};

use super::futures::Futures;
use super::keepalive::{Alarm, KeepAlive, Pings};
use super::pipe::Pipe;
use super::recv::Http2Body;
use crate::{CodecError, Incoming};

/// What the server allows its clients.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// `SETTINGS_INITIAL_WINDOW_SIZE`, bytes.
    pub stream_window: u32,
    /// The window of the whole connection, bytes.
    pub connection_window: u32,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`
    pub streams: u32,
    /// `SETTINGS_MAX_HEADER_LIST_SIZE`, bytes.
    pub header_list: u32,
    /// `SETTINGS_ENABLE_CONNECT_PROTOCOL` (RFC 8441).
    pub connect_protocol: bool,
}

/// Serves one connection: makes a future for each request and polls them all.
pub struct Server<T, A, S, F>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    state: State<T>,
    pings: Option<Pings<A>>,
    keepalive: Option<KeepAlive<A>>,
    start: S,
    futures: Futures<F>,
    closing: bool,
}

enum State<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    Handshake(Handshake<T, Bytes>),
    Open(Connection<T, Bytes>),
}

impl<T, A, S, F> Server<T, A, S, F>
where
    T: AsyncRead + AsyncWrite + Unpin,
    A: Alarm,
    S: FnMut(Request<Incoming>, Reply) -> F,
    F: Future<Output = ()>,
{
    /// A server on a connection of which nothing was read; `start` makes the future of a request.
    pub fn new(io: T, options: &ServerOptions, pings: Option<Pings<A>>, start: S) -> Self {
        let mut builder = Builder::new();
        builder
            .initial_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window)
            .max_concurrent_streams(options.streams)
            .max_header_list_size(options.header_list);
        if options.connect_protocol {
            builder.enable_connect_protocol();
        }
        Self {
            state: State::Handshake(builder.handshake(io)),
            pings,
            keepalive: None,
            start,
            futures: Futures::new(),
            closing: false,
        }
    }

    /// Announces the end (GOAWAY); the connection ends with its last stream.
    pub fn shut_down(&mut self) {
        if !std::mem::replace(&mut self.closing, true)
            && let State::Open(connection) = &mut self.state
        {
            connection.graceful_shutdown();
            self.futures.wake_connection();
        }
    }

    /// Goes on with the connection and its streams; ready when it has ended.
    ///
    /// # Errors
    /// The connection failed or the client does not answer pings.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        let Self { state, pings, keepalive, start, futures, closing } = self;
        futures.poll(cx, |futures, cx| {
            if let State::Handshake(handshake) = state {
                let mut connection = ready!(Pin::new(handshake).poll(cx))?;
                if let (Some(pings), Some(link)) = (pings.take(), connection.ping_pong()) {
                    *keepalive = Some(KeepAlive::new(pings, link));
                }
                if *closing {
                    connection.graceful_shutdown();
                }
                *state = State::Open(connection);
            }
            let State::Open(connection) = state else { return Poll::Pending };
            if keepalive.as_mut().is_some_and(|pings| pings.poll_dead(cx).is_ready()) {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut).into()));
            }
            while let Some(accepted) = ready!(connection.poll_accept(cx)) {
                let (request, reply) = accepted?;
                futures.start(start(arrived(request), Reply(reply)));
            }
            Poll::Ready(Ok(()))
        })
    }
}

fn arrived(request: Request<h2::RecvStream>) -> Request<Incoming> {
    let (head, stream) = request.into_parts();
    let body = Http2Body::of_request(stream, &head.headers);
    Request::from_parts(head, body.map_or(Incoming::Empty, Incoming::Http2))
}

/// The way back to the client.
#[derive(Debug)]
pub struct Reply(SendResponse<Bytes>);

impl Reply {
    /// Waits for a response and sends it. Ends early when the client resets the stream.
    pub fn with<F, B>(self, response: F) -> impl Future<Output = ()>
    where
        F: Future<Output = Response<B>>,
        B: Body<Data = Bytes> + Unpin,
    {
        Replying { reply: self.0, state: Step::Waiting { response } }
    }
}

pin_project! {
    struct Replying<F, B> {
        reply: SendResponse<Bytes>,
        #[pin]
        state: Step<F, B>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<F, B> {
        Waiting { #[pin] response: F },
        Sending { pipe: Pipe<B> },
    }
}

impl<F, B> Replying<F, B>
where
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    fn poll_sent(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        let mut this = self.project();
        loop {
            let pipe = match this.state.as_mut().project() {
                StepProjection::Sending { pipe } => return pipe.poll(cx),
                StepProjection::Waiting { response } => {
                    let Poll::Ready(response) = response.poll(cx) else {
                        let reason = ready!(this.reply.poll_reset(cx))?;
                        return Poll::Ready(Err(CodecError::Reset(reason)));
                    };
                    let (head, body) = response.into_parts();
                    let last = body.is_end_stream();
                    let sent = this.reply.send_response(Response::from_parts(head, ()), last);
                    let stream =
                        sent.inspect_err(|_| this.reply.send_reset(Reason::INTERNAL_ERROR))?;
                    if last {
                        return Poll::Ready(Ok(()));
                    }
                    Pipe::new(stream, body)
                }
            };
            this.state.set(Step::Sending { pipe });
        }
    }
}

impl<F, B> Future for Replying<F, B>
where
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let result = ready!(self.poll_sent(cx));
        if let Err(error) = result {
            tracing::debug!(%error, "a stream ended early");
        }
        Poll::Ready(())
    }
}
