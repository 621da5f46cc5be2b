//! Sockets that listen.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use weft_model::{ListenAddress, Listener, SocketMoment};

use crate::socket_options;
use crate::stream::RawStream;

/// How many connections are taken from the queue of a socket that is closed; clients may keep
/// coming.
const MOST_QUEUED: usize = 4096;

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum ListenSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A new connection and its addresses, client's first; Unix sockets have none.
pub(crate) type Accepted = (RawStream, Option<(SocketAddr, SocketAddr)>);

impl ListenSocket {
    /// Binds one address of a listener; each worker binds its own (`SO_REUSEPORT`).
    pub(crate) fn bind(address: &ListenAddress, listener: &Listener) -> io::Result<Self> {
        match address {
            ListenAddress::Socket(address) => bind_tcp(*address, listener).map(Self::Tcp),
            ListenAddress::Pipe(path) => bind_unix(path).map(Self::Unix),
        }
    }

    /// Where it listens, if that is not a path.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Waits for a connection.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                let addresses = prepare(&stream, remote)?;
                Ok((RawStream::Tcp(stream), Some(addresses)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((RawStream::Unix(stream), None))
            }
        }
    }

    /// Closes the socket and gives the connections that clients had made already: left in its
    /// queue, they would be reset.
    pub(crate) fn close(self) -> Vec<Accepted> {
        let mut queued = Vec::new();
        // Without tokio, which waits to be told of connections.
        match self {
            Self::Tcp(listener) => {
                let Ok(listener) = listener.into_std() else { return queued };
                while let Some(Ok((stream, remote))) = next(queued.len(), || listener.accept()) {
                    queued.extend(adopt_tcp(stream, remote).ok());
                }
            }
            Self::Unix(listener) => {
                let Ok(listener) = listener.into_std() else { return queued };
                while let Some(Ok((stream, _))) = next(queued.len(), || listener.accept()) {
                    queued.extend(adopt_unix(stream).ok());
                }
            }
        }
        queued
    }
}

/// The next one in the queue of a socket that is being closed.
fn next<T>(count: usize, accept: impl FnOnce() -> io::Result<T>) -> Option<io::Result<T>> {
    (count < MOST_QUEUED).then(accept)
}

fn adopt_tcp(stream: std::net::TcpStream, remote: SocketAddr) -> io::Result<Accepted> {
    stream.set_nonblocking(true)?;
    let stream = TcpStream::from_std(stream)?;
    let addresses = prepare(&stream, remote)?;
    Ok((RawStream::Tcp(stream), Some(addresses)))
}

fn adopt_unix(stream: std::os::unix::net::UnixStream) -> io::Result<Accepted> {
    stream.set_nonblocking(true)?;
    Ok((RawStream::Unix(UnixStream::from_std(stream)?), None))
}

fn prepare(stream: &TcpStream, remote: SocketAddr) -> io::Result<(SocketAddr, SocketAddr)> {
    stream.set_nodelay(true)?;
    Ok((canonical(remote), canonical(stream.local_addr()?)))
}

/// An address of IPv4 that a socket of IPv6 shows becomes one of IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn bind_tcp(address: SocketAddr, listener: &Listener) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    match address {
        SocketAddr::V4(_) => {
            if listener.freebind {
                socket.set_freebind_v4(true)?;
            }
            if listener.transparent {
                socket.set_ip_transparent_v4(true)?;
            }
        }
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            if listener.freebind {
                socket.set_freebind_v6(true)?;
            }
            if listener.transparent {
                socket.set_ip_transparent_v6(true)?;
            }
        }
    }
    let set = |moment| {
        socket_options::apply(socket.as_fd(), &listener.socket_options, moment, address.is_ipv4())
    };
    set(SocketMoment::Prebind)?;
    socket.bind(&address.into())?;
    set(SocketMoment::Bound)?;
    socket.listen(i32::try_from(listener.backlog).unwrap_or(i32::MAX).max(1))?;
    set(SocketMoment::Listening)?;
    TcpListener::from_std(socket.into())
}

/// A socket file that nobody listens at any more is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        other => other,
    }
}

fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
    is_socket && std::os::unix::net::UnixStream::connect(path).is_err()
}
