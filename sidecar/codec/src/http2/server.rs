//! The server's end of a connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};

use super::futures::Futures;
use super::half::{RecvHalf, SendHalf};
use super::keepalive::{Alarm, KeepAlive, Pings};
use super::link::Link;
use super::pipe::Pipe;
use super::recv::Http2Body;
use super::state::{Local, State};
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
#[derive(Debug)]
pub struct Server<T, A, S, F> {
    link: Link<T>,
    keepalive: Option<KeepAlive<A>>,
    start: S,
    futures: Futures<F>,
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
        let local = Local {
            stream_window: options.stream_window,
            connection_window: options.connection_window,
            streams: options.streams,
            header_list: usize::try_from(options.header_list).unwrap_or(usize::MAX),
            connect_protocol: options.connect_protocol,
        };
        Self {
            link: Link::new(io, State::new(true, local)),
            keepalive: pings.map(KeepAlive::new),
            start,
            futures: Futures::new(),
        }
    }

    /// Announces the end (GOAWAY); the connection ends with its last stream.
    pub fn shut_down(&mut self) {
        self.link.go_away_gracefully();
        self.futures.wake_connection();
    }

    /// Whether it only waits for a client that broke the protocol to close. Whoever polls it
    /// limits how long.
    pub fn lingers(&self) -> bool {
        self.link.lingers()
    }

    /// Goes on with the connection and its streams; ready when it has ended.
    ///
    /// # Errors
    /// The connection failed or the client does not answer pings.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        let Self { link, keepalive, start, futures } = self;
        futures.poll(cx, |futures, cx| {
            let result = link.poll(cx);
            while let Some((request, reply)) = accept(&link.state) {
                futures.start(start(request, reply));
            }
            if result.is_pending()
                && let Some(pings) = keepalive
                && pings.poll_dead(link, cx).is_ready()
            {
                let error = io::Error::from(io::ErrorKind::TimedOut);
                return Poll::Ready(link.over(error.into()));
            }
            result
        })
    }
}

/// The next request that has arrived.
fn accept(state: &Rc<RefCell<State>>) -> Option<(Request<Incoming>, Reply)> {
    let accepted = state.borrow_mut().accepted.pop_front()?;
    let body = if accepted.has_body {
        Incoming::Http2(Http2Body::of_request(RecvHalf::new(state, accepted.key)))
    } else {
        Incoming::Empty
    };
    let reply = Reply(SendHalf::new(state, accepted.key));
    Some((accepted.head.map(|()| body), reply))
}

/// The way back to the client.
#[derive(Debug)]
pub struct Reply(SendHalf);

impl Reply {
    /// Waits for a response and sends it. Ends early when the client resets the stream.
    pub fn with<F, B>(self, response: F) -> impl Future<Output = ()>
    where
        F: Future<Output = Response<B>>,
        B: Body<Data = Bytes> + Unpin,
    {
        Replying { reply: Some(self.0), state: Step::Waiting { response } }
    }
}

pin_project! {
    struct Replying<F, B> {
        reply: Option<SendHalf>,
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
                    let Some(reply) = this.reply.as_ref() else { return Poll::Ready(Ok(())) };
                    let Poll::Ready(response) = response.poll(cx) else {
                        return Poll::Ready(Err(ready!(reply.poll_reset(cx))));
                    };
                    let last = response.body().is_end_stream();
                    reply.send_response(&response, last);
                    match this.reply.take() {
                        Some(reply) if !last => Pipe::new(reply, response.into_body()),
                        _ => return Poll::Ready(Ok(())),
                    }
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
