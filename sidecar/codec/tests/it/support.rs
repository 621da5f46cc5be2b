//! Connections in memory, and what is done over them in most tests.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use ::bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::io::DuplexStream;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Sleep;
use weft_codec::http2::{Client, Pings, Server, ServerOptions};
use weft_codec::{CodecError, Incoming};

pub(crate) type TestPings = Pings<Pin<Box<Sleep>>>;

/// Any body.
pub(crate) struct Reply(Pin<Box<dyn Body<Data = Bytes, Error = CodecError>>>);

impl Reply {
    pub(crate) fn new(body: impl Body<Data = Bytes, Error = CodecError> + 'static) -> Self {
        Self(Box::pin(body))
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = CodecError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        self.0.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

pub(crate) const OPTIONS: ServerOptions = ServerOptions {
    stream_window: 65_535,
    connection_window: 1 << 20,
    streams: 100,
    header_list: 16 << 10,
    connect_protocol: false,
};

/// Runs a test on a worker's kind of runtime; time passes at once when all wait.
pub(crate) fn local<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(600), test).await.expect("the test ends in time");
    });
}

pub(crate) fn body(bytes: impl Into<Bytes>) -> Reply {
    Reply::new(http_body_util::Full::new(bytes.into()).map_err(|never| match never {}))
}

/// A body of frames that are there already.
pub(crate) fn frames(frames: Vec<Frame<Bytes>>) -> Reply {
    if frames.is_empty() {
        return Reply::new(Incoming::Empty);
    }
    let frames = frames.into_iter().map(Ok);
    Reply::new(http_body_util::StreamBody::new(tokio_stream::iter(frames)))
}

/// Serves one end of a connection; the other end is returned.
pub(crate) fn serve<H, F>(
    options: ServerOptions,
    pings: Option<TestPings>,
    handler: H,
) -> (DuplexStream, JoinHandle<Result<(), CodecError>>)
where
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Response<Reply>> + 'static,
{
    let (here, there) = tokio::io::duplex(16 << 10);
    let task = spawn_local(async move {
        let start = move |request, reply: weft_codec::http2::Reply| reply.with(handler(request));
        let mut server = Server::new(here, &options, pings, start);
        poll_fn(|cx| server.poll(cx)).await
    });
    (there, task)
}

/// Sends back what it gets, trailers included, as it comes.
pub(crate) async fn echo(request: Request<Incoming>) -> Response<Reply> {
    Response::new(Reply::new(request.into_body()))
}

/// A client of ours, whose connection is driven.
pub(crate) fn connect(io: DuplexStream) -> (Client, JoinHandle<Result<(), CodecError>>) {
    let (client, mut connection) = Client::new(io, 65_535, 1 << 20, None::<TestPings>);
    (client, spawn_local(async move { poll_fn(|cx| connection.poll(cx)).await }))
}

/// Another implementation's client.
pub(crate) async fn connect_h2(io: DuplexStream) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    spawn_local(connection);
    client
}

/// A whole body and its trailers.
pub(crate) async fn read(
    body: impl Body<Data = Bytes, Error = CodecError>,
) -> Result<(Vec<u8>, Option<HeaderMap>), CodecError> {
    let mut body = pin!(body);
    let (mut data, mut trailers) = (Vec::new(), None);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((data, trailers))
}

/// The same from another implementation.
pub(crate) async fn read_h2(
    mut body: h2::RecvStream,
) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut data = Vec::new();
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        body.flow_control().release_capacity(bytes.len())?;
        data.extend_from_slice(&bytes);
    }
    Ok((data, body.trailers().await?))
}
