//! TLS: handshakes with whoever says anything, and records that are changed on their way.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use weft_tls::{CertifiedChain, ClientTls, ClientTlsSpec, ServerTls, ServerTlsSpec, TlsVersion};

use super::certificates::pair;
use crate::Target;
use crate::feed::{Feed, Pieces, drive, drive_until_stuck};

const WORDS: &[&str] = &[
    "\x16\x03\x03",
    "\x17\x03\x03",
    "\x15\x03\x03\0\x02",
    "\x14\x03\x03\0\x01\x01",
    "\x02\0\0",
    "h2",
];

pub(super) const SERVER: Target =
    Target { name: "tls_server", run: server, seeds: flights, words: WORDS, quick: 1_000 };
pub(super) const CLIENT: Target =
    Target { name: "tls_client", run: client, seeds: flights, words: WORDS, quick: 500 };
pub(super) const RECORDS: Target =
    Target { name: "tls_records", run: records, seeds: changes, words: &[], quick: 60 };

fn ends() -> &'static (ServerTls, [ClientTls; 2]) {
    static ENDS: OnceLock<(ServerTls, [ClientTls; 2])> = OnceLock::new();
    ENDS.get_or_init(|| {
        let chain = CertifiedChain::from_pem(pair().certificate.as_bytes(), pair().key.as_bytes());
        let mut server = ServerTlsSpec::new(vec![chain.expect("invariant: it was just made")]);
        server.alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = |version| {
            let spec = ClientTlsSpec {
                alpn: vec![b"h2".to_vec()],
                sni: Some("www.example".to_owned()),
                max_version: Some(version),
                session_resumption: false,
                ..ClientTlsSpec::default()
            };
            ClientTls::new(&spec).expect("invariant: nothing of it is wrong")
        };
        let server = ServerTls::new(&server).expect("invariant: nothing of it is wrong");
        (server, [client(TlsVersion::V1_2), client(TlsVersion::V1_3)])
    })
}

fn server(input: &[u8]) {
    let [pieces, bytes @ ..] = input else { return };
    let mut accepting = pin!(ends().0.accept(Feed::new(bytes, Pieces::Small(*pieces))));
    let accepted = drive(|cx| accepting.as_mut().poll(cx));
    assert!(accepted.is_err(), "nobody but a client can finish a handshake");
}

fn client(input: &[u8]) {
    let [pieces, bytes @ ..] = input else { return };
    let client = &ends().1[usize::from(pieces % 2)];
    let feed = Feed::new(bytes, Pieces::Small(*pieces));
    let mut connecting = pin!(client.connect(feed, None, None));
    let connected = drive(|cx| connecting.as_mut().poll(cx));
    assert!(connected.is_err(), "nobody but a server can finish a handshake");
}

/// The first byte says which version, then come places (two bytes) and what is added there.
fn records(input: &[u8]) {
    let [version, changes @ ..] = input else { return };
    let changes: Vec<_> = changes
        .chunks_exact(3)
        .map(|change| (usize::from(u16::from_be_bytes([change[0], change[1]])), change[2]))
        .collect();
    exchange(*version, changes);
}

fn exchange(version: u8, changes: Vec<(usize, u8)>) {
    let sent: Vec<u8> = (0..40_000u32).map(|at| (at ^ at >> 8) as u8).collect();
    let (near, far) = tokio::io::duplex(1 << 10);
    let (server, clients) = ends();
    let tampered = changes.iter().any(|(_, with)| *with != 0);
    let received = RefCell::new(Vec::new());
    let near = Tampered { io: near, at: 0, changes };
    let sending = async {
        let mut stream = clients[usize::from(version % 2)].connect(near, None, None).await.ok()?;
        for part in sent.chunks(1 + usize::from(version) * 77) {
            stream.write_all(part).await.ok()?;
        }
        stream.shutdown().await.ok()
    };
    let receiving = async {
        let Ok(mut stream) = server.accept(far).await else { return };
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            received.borrow_mut().extend_from_slice(&part[..count]);
        }
    };
    let mut both = pin!(async { tokio::join!(sending, receiving).0 });
    // A length that was changed leaves both ends waiting: deadlines are the caller's.
    let done = drive_until_stuck(|cx| both.as_mut().poll(cx)).flatten();
    let received = received.borrow();
    assert!(sent.starts_with(&received), "what was changed was believed");
    assert!(tampered || done.is_some() && received.len() == sent.len(), "it did not all arrive");
}

/// A stream that changes what is written to it.
struct Tampered<T> {
    io: T,
    at: usize,
    changes: Vec<(usize, u8)>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Tampered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tampered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut changed = bytes.to_vec();
        let at = self.at;
        for (place, with) in &self.changes {
            if let Some(byte) = place.checked_sub(at).and_then(|place| changed.get_mut(place)) {
                *byte = byte.wrapping_add(*with);
            }
        }
        let written = Pin::new(&mut self.io).poll_write(cx, &changed);
        if let Poll::Ready(Ok(count)) = &written {
            self.at += count;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What a client says first, what a server says first, and alerts.
fn flights() -> Vec<Vec<u8>> {
    let (server, clients) = ends();
    let mut all =
        vec![b"\0\x15\x03\x03\0\x02\x02\x28".to_vec(), b"\0GET / HTTP/1.1\r\n\r\n".to_vec()];
    for (index, client) in clients.iter().enumerate() {
        let feed = Feed::new(&[], Pieces::Whole);
        let hello = feed.written();
        let mut connecting = pin!(client.connect(feed, None, None));
        let _ = drive(|cx| connecting.as_mut().poll(cx));
        let hello = hello.borrow().clone();
        let feed = Feed::new(&hello, Pieces::Whole);
        let answer = feed.written();
        let mut accepting = pin!(server.accept(feed));
        let _ = drive(|cx| accepting.as_mut().poll(cx));
        for flight in [hello, answer.borrow().clone()] {
            all.push([vec![index as u8], flight].concat());
        }
    }
    all
}

fn changes() -> Vec<Vec<u8>> {
    vec![vec![0], vec![1], vec![200, 0, 10, 1], vec![3, 40, 0, 1, 4, 0, 128], vec![9, 2, 0, 255]]
}
