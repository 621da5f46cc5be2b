//! hyper's codecs, set up as the connection manager says.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::TokioTimer;
use weft_codec::CodecError;
use weft_model::HttpConnectionManager;

use super::Codec;

/// The largest read buffer of an HTTP/1 connection, bytes.
const HTTP1_BUFFER: usize = 64 << 10;
/// How many header fields hyper accepts without allocating for them.
const USUAL_HEADERS: u32 = 100;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
}

/// The HTTP/1 codec.
pub(super) fn http1(manager: &HttpConnectionManager) -> http1::Builder {
    let largest = usize::try_from(manager.max_header_bytes).unwrap_or(usize::MAX);
    let mut codec = http1::Builder::new();
    codec
        .header_read_timeout(None)
        .max_header_size(largest)
        .max_buf_size(HTTP1_BUFFER.max(largest.saturating_add(4096)))
        .preserve_header_case(manager.http1.preserve_case)
        .title_case_headers(manager.http1.title_case);
    if manager.max_headers != USUAL_HEADERS {
        codec.max_headers(usize::try_from(manager.max_headers).unwrap_or(usize::MAX));
    }
    if let Some(limit) = manager.request_headers_timeout.filter(|limit| !limit.is_zero()) {
        codec.timer(TokioTimer::new()).header_read_timeout(limit);
    }
    codec
}

/// The HTTP/2 codec.
pub(super) fn http2(manager: &HttpConnectionManager) -> http2::Builder<OnThisWorker> {
    let options = &manager.http2;
    let mut codec = http2::Builder::new(OnThisWorker);
    codec
        .timer(TokioTimer::new())
        .initial_stream_window_size(options.initial_stream_window)
        .initial_connection_window_size(options.initial_connection_window)
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(manager.max_header_bytes);
    if options.allow_connect {
        codec.enable_connect_protocol();
    }
    if let Some(pings) = &options.keepalive {
        codec.keep_alive_interval(pings.interval).keep_alive_timeout(pings.timeout);
    }
    codec
}

/// Runs the streams of an HTTP/2 connection on the worker that owns it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnThisWorker;

impl<F> Executor<F> for OnThisWorker
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}

type BoxError = Box<dyn StdError + Send + Sync>;

impl<I, B, S> Codec for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin + Send + 'static,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    const ANNOUNCES: bool = false;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        Future::poll(self, cx).map_err(CodecError::from)
    }

    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, B, S> Codec for http2::Connection<I, S, OnThisWorker>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    OnThisWorker: Http2ServerConnExec<S::Future, B>,
{
    const ANNOUNCES: bool = true;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        Future::poll(self, cx).map_err(CodecError::from)
    }

    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
