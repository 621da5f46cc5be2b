//! The client's end of a connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, spawn_local};

use super::half::{RecvHalf, SendHalf};
use super::head::write_request;
use super::keepalive::{Alarm, KeepAlive, Pings};
use super::link::Link;
use super::pipe::Pipe;
use super::recv::Http2Body;
use super::state::{Local, State};
use crate::{CodecError, Incoming, SendFailed};

/// Streams that may be open before the server has said how many (RFC 9113, 6.5.2, advises 100).
const FIRST_STREAMS: u32 = 100;
/// The longest header list of a response, bytes (Envoy, `max_response_headers_kb`).
const HEADER_LIST: usize = 60 << 10;
/// The last number that a stream may have.
const LAST_STREAM: u32 = (1 << 31) - 1;

/// Sends requests over one connection.
#[derive(Debug)]
pub struct Client {
    state: Rc<RefCell<State>>,
}

impl Client {
    /// A client on a new connection; the windows are in bytes.
    pub fn new<T, A>(
        io: T,
        stream_window: u32,
        connection_window: u32,
        pings: Option<Pings<A>>,
    ) -> (Self, ClientConnection<T, A>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
        A: Alarm,
    {
        let local = Local {
            stream_window,
            connection_window,
            streams: 0,
            header_list: HEADER_LIST,
            connect_protocol: false,
        };
        let mut state = State::new(false, local);
        state.peer.streams = FIRST_STREAMS;
        let link = Link::new(io, state);
        let state = Rc::clone(&link.state);
        (Self { state }, ClientConnection { link, keepalive: pings.map(KeepAlive::new) })
    }

    /// Whether the server takes more streams: it did not say GOAWAY and the connection lives.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let state = self.state.borrow();
        state.refused.is_none() && state.next_id <= LAST_STREAM
    }

    /// How many streams the server allows at a time, as far as is known.
    #[must_use]
    pub fn max_streams(&self) -> u32 {
        self.state.borrow().peer.streams
    }

    /// Sends a request, whose body is sent by the future that waits for the response. Dropping
    /// the future resets the stream.
    ///
    /// # Errors
    /// The connection takes no more requests; this one was not sent.
    pub fn send<B>(&self, request: Request<B>) -> Result<Exchange<B>, SendFailed<Request<B>>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut state = self.state.borrow_mut();
        let refused = state.refused.clone();
        let full = state.by_id.len() >= state.peer.streams as usize || state.next_id > LAST_STREAM;
        if let Some(error) = refused.or_else(|| full.then_some(CodecError::Closed)) {
            return Err(SendFailed { error, unsent: Some(Box::new(request)) });
        }
        let (head, body) = request.into_parts();
        let last = body.is_end_stream();
        let id = state.next_id;
        state.next_id += 2;
        let key = state.open(id, if last { 1 } else { 2 });
        state.stream(key).answers_head = head.method == Method::HEAD;
        state.write_headers(id, last, |encoder, out| write_request(&head, encoder, out));
        if last {
            state.end_sending(key);
        }
        drop(state);
        Ok(Exchange {
            stream: Some(RecvHalf::new(&self.state, key)),
            upload: (!last).then(|| Pipe::new(SendHalf::new(&self.state, key), body)),
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        state.abandoned = true;
        state.wake();
    }
}

/// A request on its way: sends the rest of its body and gives the response's head.
#[derive(Debug)]
pub struct Exchange<B> {
    /// Until the head has come.
    stream: Option<RecvHalf>,
    upload: Option<Pipe<B>>,
}

impl<B> Future for Exchange<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    type Output = Result<Response<Incoming>, CodecError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(upload) = &mut this.upload
            && let Poll::Ready(sent) = upload.poll(cx)
        {
            this.upload = None;
            if let Err(CodecError::Body) = sent {
                return Poll::Ready(Err(CodecError::Body));
            }
            // Other errors are those of the stream, which may have a response all the same.
        }
        let Some(stream) = &this.stream else { return Poll::Pending };
        let (head, has_body) = ready!(stream.poll_head(cx))?;
        let upload = this.upload.take().filter(|_| has_body);
        let body = match this.stream.take().filter(|_| has_body) {
            Some(stream) => {
                Incoming::Http2(Http2Body::of_response(stream, upload.map(Upload::go_on)))
            }
            None => Incoming::Empty,
        };
        Poll::Ready(Ok(head.map(|()| body)))
    }
}

/// The rest of a request's body, sent while the response arrives; independent of it, since either
/// may have to wait for the other side. Ends with the response.
#[derive(Debug)]
pub(super) struct Upload(AbortHandle);

impl Upload {
    fn go_on<B>(mut pipe: Pipe<B>) -> Self
    where
        B: Body<Data = Bytes> + Unpin + 'static,
    {
        let sending = async move {
            if let Err(error) = poll_fn(|cx| pipe.poll(cx)).await {
                tracing::debug!(%error, "a request's body ended early");
            }
        };
        Self(spawn_local(sending).abort_handle())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads and writes for all streams of a connection; has to be polled.
#[derive(Debug)]
pub struct ClientConnection<T, A> {
    link: Link<T>,
    keepalive: Option<KeepAlive<A>>,
}

impl<T, A> ClientConnection<T, A>
where
    T: AsyncRead + AsyncWrite + Unpin,
    A: Alarm,
{
    /// Ready when the connection has ended.
    ///
    /// # Errors
    /// The connection failed or the server does not answer pings.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        let result = self.link.poll(cx);
        if result.is_pending()
            && let Some(pings) = &mut self.keepalive
            && pings.poll_dead(&self.link, cx).is_ready()
        {
            let error = io::Error::from(io::ErrorKind::TimedOut);
            return Poll::Ready(self.link.over(error.into()));
        }
        result
    }
}
