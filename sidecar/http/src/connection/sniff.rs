//! Which HTTP a connection speaks.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use weft_codec::Transport;
use weft_model::Codec;
use weft_net::{DownstreamStream, DrainWatch, Phase};

use super::HttpConnection;

/// What an HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is read before it is known what the connection speaks, bytes.
const FIRST_READ: usize = 4096;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
}

/// A stream of which some bytes have been read already.
#[derive(Debug)]
pub(crate) struct Sniffed {
    stream: DownstreamStream,
    seen: Box<[u8]>,
    at: usize,
}

impl Sniffed {
    fn untouched(stream: DownstreamStream) -> Self {
        Self { stream, seen: Box::default(), at: 0 }
    }

    /// The stream, and what was read of it.
    pub(super) fn into_parts(self) -> (DownstreamStream, Box<[u8]>) {
        (self.stream, self.seen)
    }
}

/// Finds out which codec the connection needs; `None`: it ended before.
pub(super) async fn speaks(
    connection: &Rc<HttpConnection>,
    stream: DownstreamStream,
    drain: &mut DrainWatch,
) -> Option<(Sniffed, Speaks)> {
    if let Some(known) = known(connection) {
        return Some((Sniffed::untouched(stream), known));
    }
    let deadline = connection.worker.timers.after(connection.manager.idle_timeout);
    tokio::select! {
        biased;
        sniffed = sniff(stream) => sniffed.ok(),
        () = deadline => None,
        () = drain.reached(Phase::Closing) => None,
    }
}

/// What configuration, ALPN or the HTTP inspector say.
fn known(connection: &HttpConnection) -> Option<Speaks> {
    match connection.manager.codec {
        Codec::Http1 => return Some(Speaks::Http1),
        Codec::Http2 => return Some(Speaks::Http2),
        Codec::Auto => {}
    }
    if let Some(tls) = &connection.facts.tls {
        return match tls.alpn.as_deref()? {
            b"h2" | b"istio-h2" => Some(Speaks::Http2),
            b"http/1.1" | b"http/1.0" | b"istio-http/1.1" | b"istio-http/1.0" => {
                Some(Speaks::Http1)
            }
            _ => None,
        };
    }
    connection.facts.application_protocols.iter().find_map(|protocol| match &**protocol {
        "h2c" => Some(Speaks::Http2),
        "http/1.1" | "http/1.0" => Some(Speaks::Http1),
        _ => None,
    })
}

/// Reads until the bytes differ from the preface or all of it is there.
async fn sniff(mut stream: DownstreamStream) -> io::Result<(Sniffed, Speaks)> {
    // A client that says nothing yet needs no buffer.
    poll_fn(|cx| stream.poll_read_ready(cx)).await?;
    // Room for a usual first request: what the codec gets in one piece it reads into one buffer.
    let mut seen = Vec::with_capacity(FIRST_READ);
    loop {
        if stream.read_buf(&mut seen).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let shared = seen.len().min(PREFACE.len());
        let speaks = if seen[..shared] != PREFACE[..shared] {
            Speaks::Http1
        } else if shared == PREFACE.len() {
            Speaks::Http2
        } else {
            continue;
        };
        return Ok((Sniffed { stream, seen: seen.into_boxed_slice(), at: 0 }, speaks));
    }
}

impl AsyncRead for Sniffed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.at < this.seen.len() {
            let rest = &this.seen[this.at..];
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            this.at += count;
            if this.at == this.seen.len() {
                this.seen = Box::default();
                this.at = 0;
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Sniffed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
