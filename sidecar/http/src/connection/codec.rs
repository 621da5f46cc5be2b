//! hyper's codecs, set up as the connection manager says.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
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
