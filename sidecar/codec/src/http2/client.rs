//! The client's end of a connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::{Request, Response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, spawn_local};

use super::keepalive::{Alarm, KeepAlive, Pings};
use super::pipe::Pipe;
use super::recv::Http2Body;
use crate::{CodecError, Incoming, SendFailed};

/// Streams that may be open before the server has said how many (RFC 9113, 6.5.2, advises 100).
const FIRST_STREAMS: usize = 100;
/// The longest header list of a response, bytes (Envoy, `max_response_headers_kb`).
const HEADER_LIST: u32 = 60 << 10;

/// Sends requests over one connection.
#[derive(Debug)]
pub struct Client {
    /// Never used to send: it would remember a stream that is not open yet, and wait for it.
    sender: SendRequest<Bytes>,
}

impl Client {
    /// Shakes hands over a new connection; the windows are in bytes.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn connect<T, A>(
        io: T,
        stream_window: u32,
        connection_window: u32,
        pings: Option<Pings<A>>,
    ) -> Result<(Self, ClientConnection<T, A>), CodecError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
        A: Alarm,
    {
        let handshake = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(FIRST_STREAMS)
            .initial_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            .max_header_list_size(HEADER_LIST)
            .handshake(io);
        let (sender, mut connection) = handshake.await?;
        let link = pings.and_then(|pings| Some((pings, connection.ping_pong()?)));
        let keepalive = link.map(|(pings, link)| KeepAlive::new(pings, link));
        let connection = Box::new(connection);
        Ok((Self { sender }, ClientConnection { connection, keepalive }))
    }

    /// Whether the server takes more streams: it did not say GOAWAY and the connection lives.
    #[must_use]
    pub fn is_open(&self) -> bool {
        refusal(&mut self.sender.clone()).is_none()
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
        let mut sender = self.sender.clone();
        if let Some(error) = refusal(&mut sender) {
            return Err(SendFailed { error: error.into(), unsent: Some(Box::new(request)) });
        }
        let (head, body) = request.into_parts();
        let last = body.is_end_stream();
        match sender.send_request(Request::from_parts(head, ()), last) {
            Ok((response, stream)) => {
                Ok(Exchange { response, upload: (!last).then(|| Pipe::new(stream, body)) })
            }
            Err(error) => Err(SendFailed { error: error.into(), unsent: None }),
        }
    }
}

/// Why no stream can be opened, if so.
fn refusal(sender: &mut SendRequest<Bytes>) -> Option<h2::Error> {
    // Nothing is waited for: the handle has no stream of its own.
    match sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(error)) => Some(error),
        Poll::Ready(Ok(())) | Poll::Pending => None,
    }
}

/// A request on its way: sends the rest of its body and gives the response's head.
#[derive(Debug)]
pub struct Exchange<B> {
    response: ResponseFuture,
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
        let (head, stream) = ready!(Pin::new(&mut this.response).poll(cx))?.into_parts();
        let upload = this.upload.take();
        let upload = || upload.map(Upload::go_on);
        let body = Http2Body::of_response(stream, &head.headers, upload);
        Poll::Ready(Ok(Response::from_parts(head, body.map_or(Incoming::Empty, Incoming::Http2))))
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
pub struct ClientConnection<T, A>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Large, and moved until it is driven.
    connection: Box<Connection<T, Bytes>>,
    keepalive: Option<KeepAlive<A>>,
}

impl<T, A> ClientConnection<T, A>
where
    T: AsyncRead + AsyncWrite + Unpin,
    A: Alarm,
{
    /// How many streams the server allows at a time, as far as is known.
    #[must_use]
    pub fn max_streams(&self) -> usize {
        self.connection.max_concurrent_send_streams()
    }

    /// Ready when the connection has ended.
    ///
    /// # Errors
    /// The connection failed or the server does not answer pings.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        if self.keepalive.as_mut().is_some_and(|pings| pings.poll_dead(cx).is_ready()) {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        }
        Pin::new(&mut *self.connection).poll(cx).map_err(CodecError::from)
    }
}
