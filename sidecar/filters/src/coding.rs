//! Content codings: bodies that are compressed or decompressed while they pass.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};
use weft_filter_api::{BodyError, BoxedBody, LocalReply};
use weft_telemetry::Counter;

pub(crate) mod config;

/// Bytes that a coder writes into.
type Out = Vec<u8>;

/// A library of Envoy's: what it is called, and how it is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Coding {
    /// `gzip`; the level.
    Gzip(u32),
    /// `br`; quality and the logarithm of the window.
    Brotli(u32, u32),
}

impl Coding {
    /// As `Content-Encoding` has it (RFC 9110, 8.4.1).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip(_) => "gzip",
            Self::Brotli(..) => "br",
        }
    }

    fn compressor(self) -> Coder {
        match self {
            Self::Gzip(level) => {
                let level = flate2::Compression::new(level);
                Coder::Gzip(flate2::write::GzEncoder::new(Out::new(), level))
            }
            Self::Brotli(quality, window) => {
                let writer = brotli::CompressorWriter::new(Out::new(), CHUNK, quality, window);
                Coder::Brotli(Box::new(writer))
            }
        }
    }

    fn decompressor(self) -> Coder {
        match self {
            Self::Gzip(_) => Coder::Gunzip(flate2::write::MultiGzDecoder::new(Out::new())),
            Self::Brotli(..) => {
                Coder::Unbrotli(Box::new(brotli::DecompressorWriter::new(Out::new(), CHUNK)))
            }
        }
    }

    /// Compresses a body, counting what goes in and what comes out.
    pub(crate) fn compress(self, body: BoxedBody, counts: [Counter; 2]) -> BoxedBody {
        Box::pin(Coded::new(body, self.compressor(), None, counts))
    }

    /// Decompresses a body to at most `ratio` times its size.
    pub(crate) fn decompress(self, body: BoxedBody, ratio: u64, counts: [Counter; 2]) -> BoxedBody {
        Box::pin(Coded::new(body, self.decompressor(), Some(ratio), counts))
    }
}

/// Bytes that are worked on at once.
const CHUNK: usize = 4096;
/// What may come out whatever went in, bytes: short bodies may be compressed well.
const FREE: u64 = 64 << 10;

enum Coder {
    Gzip(flate2::write::GzEncoder<Out>),
    Gunzip(flate2::write::MultiGzDecoder<Out>),
    Brotli(Box<brotli::CompressorWriter<Out>>),
    Unbrotli(Box<brotli::DecompressorWriter<Out>>),
}

impl Coder {
    fn feed(&mut self, data: &[u8]) -> io::Result<Out> {
        match self {
            Self::Gzip(coder) => {
                coder.write_all(data)?;
                Ok(std::mem::take(coder.get_mut()))
            }
            Self::Gunzip(coder) => {
                coder.write_all(data)?;
                // What is known is given: somebody may wait for it.
                coder.flush()?;
                Ok(std::mem::take(coder.get_mut()))
            }
            Self::Brotli(coder) => {
                coder.write_all(data)?;
                Ok(std::mem::take(coder.get_mut()))
            }
            Self::Unbrotli(coder) => {
                coder.write_all(data)?;
                Ok(std::mem::take(coder.get_mut()))
            }
        }
    }

    fn finish(self) -> io::Result<Out> {
        match self {
            Self::Gzip(coder) => coder.finish(),
            Self::Gunzip(coder) => coder.finish(),
            Self::Brotli(coder) => Ok(coder.into_inner()),
            Self::Unbrotli(mut coder) => {
                coder.close()?;
                Ok(std::mem::take(coder.get_mut()))
            }
        }
    }
}

/// A body on its way through a coder.
struct Coded {
    body: BoxedBody,
    /// `None`: it has finished.
    coder: Option<Coder>,
    trailers: Option<HeaderMap>,
    /// How many times as long as what went in may what comes out be.
    ratio: Option<u64>,
    /// Bytes in and out.
    passed: [u64; 2],
    counts: [Counter; 2],
}

impl Coded {
    fn new(body: BoxedBody, coder: Coder, ratio: Option<u64>, counts: [Counter; 2]) -> Self {
        Self { body, coder: Some(coder), trailers: None, ratio, passed: [0, 0], counts }
    }

    /// Counts what came out of a coder.
    fn came(&mut self, given: usize, out: io::Result<Out>) -> Result<Bytes, BodyError> {
        let out = out.map_err(|error| refused(&error.to_string()))?;
        self.passed[0] += given as u64;
        self.passed[1] += out.len() as u64;
        self.counts[0].add(given as u64);
        self.counts[1].add(out.len() as u64);
        let [given, came] = self.passed;
        if self.ratio.is_some_and(|ratio| came > FREE.max(given.saturating_mul(ratio))) {
            return Err(refused("it is far longer than it seems"));
        }
        Ok(out.into())
    }
}

fn refused(reason: &str) -> BodyError {
    tracing::debug!(reason, "a body could not be coded");
    let reply = LocalReply::text(StatusCode::BAD_REQUEST, "Bad Request", "coding_error");
    BodyError::Refused(Box::new(reply))
}

impl Body for Coded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let Some(coder) = &mut this.coder else {
                return Poll::Ready(
                    this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
                );
            };
            let given = match ready!(this.body.as_mut().poll_frame(cx)).transpose() {
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(frame) => frame.map(Frame::into_data),
            };
            let out = match given {
                Some(Ok(data)) => {
                    let out = coder.feed(&data);
                    this.came(data.len(), out)
                }
                other => {
                    let trailers = other.and_then(Result::err);
                    this.trailers = trailers.and_then(|frame| frame.into_trailers().ok());
                    let Some(coder) = this.coder.take() else { continue };
                    this.came(0, coder.finish())
                }
            };
            match out {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                Err(error) => {
                    this.coder = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}
