//! A stream whose peer may begin with a preface, which is taken off.

use std::cell::OnceCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use weft_filter_api::{PeerExchange, Preface};

/// Bytes that are read at a time while the preface is awaited.
const PIECE: usize = 4096;

/// What a peer said of itself, once it has.
pub(super) type Told = Rc<OnceCell<Vec<u8>>>;

/// A stream; most of them have no preface, and pass through.
pub(super) struct Prefaced<'a, S> {
    stream: &'a mut S,
    reading: Option<Box<Reading>>,
}

struct Reading {
    exchange: Arc<PeerExchange>,
    told: Told,
    /// What was read; of a preface that was found, what came behind it.
    buffer: Vec<u8>,
    found: bool,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Prefaced<'a, S> {
    /// A stream without a preface.
    pub(super) fn plain(stream: &'a mut S) -> Self {
        Self { stream, reading: None }
    }

    /// The stream below.
    pub(super) fn inner(&self) -> &S {
        self.stream
    }

    /// Sends our preface, and expects the peer's where both agreed on it: `alpn` is the name that
    /// was agreed on. Nothing waits for the peer's: it may send it late.
    ///
    /// # Errors
    /// Our preface could not be sent.
    pub(super) async fn exchanging(
        stream: &'a mut S,
        exchange: &Arc<PeerExchange>,
        alpn: Option<&[u8]>,
        told: &Told,
    ) -> io::Result<Self> {
        if alpn != Some(&exchange.protocol) {
            exchange.stats.protocol_not_found.inc();
            return Ok(Self::plain(stream));
        }
        exchange.stats.protocol_found.inc();
        stream.write_all(&exchange.preface).await?;
        stream.flush().await?;
        exchange.stats.sent.inc();
        let (exchange, told) = (Arc::clone(exchange), Rc::clone(told));
        let reading = Reading { exchange, told, buffer: Vec::new(), found: false };
        Ok(Self { stream, reading: Some(Box::new(reading)) })
    }
}

impl Reading {
    /// Looks at what was read so far.
    fn look(&mut self) {
        let stats = &self.exchange.stats;
        let skip = match (self.exchange.read)(&self.buffer) {
            Preface::More => return,
            Preface::Absent => {
                stats.no_header.inc();
                0
            }
            Preface::Malformed(skip) => {
                stats.malformed.inc();
                skip
            }
            Preface::Whole { length, metadata } => {
                // It is said once.
                drop(self.told.set(metadata));
                length
            }
        };
        self.buffer.drain(..skip.min(self.buffer.len()));
        self.found = true;
    }

    /// Reads until it is clear where the connection's own bytes begin.
    fn poll<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.found {
            let mut space = [0; PIECE];
            let mut piece = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                // The end, in the middle of what might have become a preface.
                self.found = true;
            } else {
                self.buffer.extend_from_slice(piece.filled());
                self.look();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(reading) = &mut this.reading {
            ready!(reading.poll(&mut *this.stream, cx))?;
            let taken = reading.buffer.len().min(buf.remaining());
            buf.put_slice(&reading.buffer[..taken]);
            reading.buffer.drain(..taken);
            if reading.buffer.is_empty() {
                this.reading = None;
            }
            if taken > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Pin::new(&mut *this.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefaced<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, duplex};
    use weft_filter_api::ExchangeStats;
    use weft_telemetry::Registry;

    use super::*;

    /// A preface is `[`, a name, `]`.
    fn exchange(preface: &'static str) -> Arc<PeerExchange> {
        let scope = Registry::new().scope("metadata_exchange", None);
        let read = |bytes: &[u8]| match bytes {
            [] => Preface::More,
            [b'[', name @ ..] => match name.iter().position(|byte| *byte == b']') {
                Some(end) => Preface::Whole { length: end + 2, metadata: name[..end].to_vec() },
                None => Preface::More,
            },
            _ => Preface::Absent,
        };
        Arc::new(PeerExchange {
            protocol: b"mx".to_vec(),
            preface: Bytes::from_static(preface.as_bytes()),
            read,
            stats: ExchangeStats {
                protocol_found: scope.counter("found"),
                protocol_not_found: scope.counter("not_found"),
                no_header: scope.counter("no_header"),
                malformed: scope.counter("malformed"),
                sent: scope.counter("sent"),
            },
        })
    }

    #[tokio::test]
    async fn both_sides_learn_the_other_and_bytes_come_through() {
        let (mut near, mut far) = duplex(1 << 16);
        let (client, server) = (exchange("[client]"), exchange("[server]"));
        let told = [Told::default(), Told::default()];
        let alpn = Some(&b"mx"[..]);
        let client = Prefaced::exchanging(&mut near, &client, alpn, &told[0]).await;
        let server = Prefaced::exchanging(&mut far, &server, alpn, &told[1]).await;
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        // A server that speaks first waits for nothing.
        server.write_all(b"welcome").await.unwrap();
        let mut seen = [0; 7];
        client.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"welcome");
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"hello");
        let names = told.map(|told| told.get().cloned().unwrap_or_default());
        assert_eq!(names, [b"server".to_vec(), b"client".to_vec()]);
    }

    #[tokio::test]
    async fn bytes_without_a_preface_are_not_touched() {
        for (sent, counted) in [("GET /", 1), ("[unfinished", 0), ("", 0)] {
            let (mut near, mut far) = duplex(1 << 16);
            let exchange = exchange("[me]");
            let told = Told::default();
            let stream = Prefaced::exchanging(&mut near, &exchange, Some(b"mx"), &told).await;
            let mut stream = stream.unwrap();
            far.write_all(sent.as_bytes()).await.unwrap();
            far.shutdown().await.unwrap();
            let mut all = String::new();
            stream.read_to_string(&mut all).await.unwrap();
            assert_eq!((all.as_str(), told.get()), (sent, None));
            assert_eq!(exchange.stats.no_header.value(), counted);
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_where_it_was_not_agreed_on() {
        let (mut near, mut far) = duplex(1 << 16);
        let exchange = exchange("[me]");
        for alpn in [None, Some(&b"istio"[..])] {
            let told = Told::default();
            drop(Prefaced::exchanging(&mut near, &exchange, alpn, &told).await.unwrap());
        }
        near.shutdown().await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert!(all.is_empty());
        assert_eq!(exchange.stats.protocol_not_found.value(), 2);
    }
}
