//! The byte stream of one downstream connection.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use weft_codec::Transport;
use weft_tls::ServerStream;

/// A socket as it was accepted.
#[derive(Debug)]
pub enum RawStream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix domain socket.
    Unix(UnixStream),
}

/// What a look at the bytes that have arrived gave.
pub(crate) enum Peeked<T> {
    /// The answer.
    Done(T),
    /// More bytes are needed.
    More,
}

impl RawStream {
    /// Makes bytes that [`Self::peek`] saw be announced again, after it was given up.
    pub(crate) fn announce_again(self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(TcpStream::from_std(stream.into_std()?)?),
            Self::Unix(stream) => Self::Unix(UnixStream::from_std(stream.into_std()?)?),
        })
    }

    /// Looks at the bytes that have arrived, without taking them, until `look` has an answer.
    ///
    /// `look` gets at most `limit` bytes, and whether no more will come: the
    /// peer has closed its side, or `limit` is reached. `None`: it had no answer even then.
    pub(crate) async fn peek<T>(
        &self,
        limit: usize,
        mut look: impl FnMut(&[u8], bool) -> Peeked<T>,
    ) -> io::Result<Option<T>> {
        let mut size = 1024.min(limit);
        loop {
            let ready = match self {
                Self::Tcp(stream) => stream.ready(Interest::READABLE).await?,
                Self::Unix(stream) => stream.ready(Interest::READABLE).await?,
            };
            let closed = ready.is_read_closed() || ready.is_error();
            let mut answer = None;
            let mut once = |fd: BorrowedFd<'_>| {
                loop {
                    let mut scratch = crate::inspect::scratch(size);
                    let seen = recv(fd.as_raw_fd(), &mut scratch, MsgFlags::MSG_PEEK)?;
                    let last = seen == 0 || closed || seen >= limit;
                    match look(&scratch[..seen], last) {
                        Peeked::Done(done) => answer = Some(done),
                        Peeked::More if last => {}
                        Peeked::More if seen == size => {
                            size = (size * 4).min(limit);
                            continue;
                        }
                        // Clears the readiness, so that the next round waits for new bytes.
                        Peeked::More => return Err(io::ErrorKind::WouldBlock.into()),
                    }
                    return Ok(());
                }
            };
            let result = match self {
                Self::Tcp(stream) => stream.try_io(Interest::READABLE, || once(stream.as_fd())),
                Self::Unix(stream) => stream.try_io(Interest::READABLE, || once(stream.as_fd())),
            };
            match result {
                Ok(()) => return Ok(answer),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => {}
            }
        }
    }
}

/// The bytes of a connection, decrypted where the proxy terminates TLS.
#[derive(Debug)]
pub enum DownstreamStream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix domain socket.
    Unix(UnixStream),
    /// TLS over one of the two.
    Tls(Box<ServerStream<RawStream>>),
}

impl From<RawStream> for DownstreamStream {
    fn from(stream: RawStream) -> Self {
        match stream {
            RawStream::Tcp(stream) => Self::Tcp(stream),
            RawStream::Unix(stream) => Self::Unix(stream),
        }
    }
}

impl DownstreamStream {
    /// The TCP socket, where nothing stands between it and the bytes: it can be spliced.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) | Self::Tls(_) => None,
        }
    }
}

macro_rules! delegate {
    ($name:ident { $($variant:ident),* }) => {
        impl AsyncRead for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_read(cx, buf),)*
                }
            }
        }

        impl AsyncWrite for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_write(cx, buf),)*
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_flush(cx),)*
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_shutdown(cx),)*
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $(Self::$variant(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),)*
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $(Self::$variant(stream) => stream.is_write_vectored(),)*
                }
            }
        }
    };
}

delegate!(RawStream { Tcp, Unix });
delegate!(DownstreamStream { Tcp, Unix, Tls });

impl RawStream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }
}

impl Transport for DownstreamStream {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            // What was received already is announced by nobody.
            Self::Tls(stream) if stream.holds_input() => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.get_ref().poll_read_ready(cx),
        }
    }
}
