//! The sockets on which queries arrive.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer;
use crate::forward::{read_message, write_message};
use crate::resolver::Resolver;

/// Where `weft-init` sends queries, as in Istio.
pub const PORT: u16 = 15053;
/// Queries and connections of one socket that are worked on at once; clients of further ones ask
/// again.
const MOST: usize = 512;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// How long to wait after a socket failed, for want of memory or file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A server of DNS queries over UDP and TCP, bound.
#[derive(Debug)]
pub struct DnsServer {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl DnsServer {
    /// Binds [`PORT`] on loopback, in IPv6 if there is any.
    ///
    /// # Errors
    /// The port is taken.
    pub fn bind_local() -> io::Result<Self> {
        let mut server = Self::bind((Ipv4Addr::LOCALHOST, PORT).into())?;
        match Self::bind((Ipv6Addr::LOCALHOST, PORT).into()) {
            Ok(further) => {
                server.udp.extend(further.udp);
                server.tcp.extend(further.tcp);
            }
            Err(error) => tracing::debug!(%error, "no DNS over IPv6"),
        }
        Ok(server)
    }

    /// Binds an address, for UDP and TCP; with port 0 a free one.
    ///
    /// # Errors
    /// The address is taken, or none of this machine's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let bound = || {
            let listener = socket(address, Type::STREAM, Protocol::TCP)?;
            listener.listen(128)?;
            let listener = TcpListener::from_std(listener.into())?;
            let datagrams = socket(listener.local_addr()?, Type::DGRAM, Protocol::UDP)?;
            Ok(Self { udp: vec![UdpSocket::from_std(datagrams.into())?], tcp: vec![listener] })
        };
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("can't answer DNS at {address}: {error}"))
        };
        bound().map_err(named)
    }

    /// The address that was bound first.
    ///
    /// # Errors
    /// The system does not know it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp[0].local_addr()
    }

    /// Serves for as long as `tasks` is kept.
    pub fn serve(self, resolver: &Arc<Resolver>, tasks: &mut JoinSet<()>) {
        for socket in self.udp {
            tasks.spawn(datagrams(Arc::new(socket), Arc::clone(resolver)));
        }
        for listener in self.tcp {
            tasks.spawn(connections(listener, Arc::clone(resolver)));
        }
    }
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

async fn datagrams(socket: Arc<UdpSocket>, resolver: Arc<Resolver>) {
    let room = Arc::new(Semaphore::new(MOST));
    // Queries end with this task.
    let mut queries = JoinSet::new();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        while queries.try_join_next().is_some() {}
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer could not be delivered, or the system is short of something.
            Err(error) => {
                tracing::debug!(%error, "no query");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let (bytes, socket) = (buffer[..length].to_vec(), Arc::clone(&socket));
        let resolver = Arc::clone(&resolver);
        queries.spawn(async move {
            if let Some(answer) = over_udp(&resolver, &bytes).await {
                // Who is gone does not wait for it.
                let _ = socket.send_to(&answer, from).await;
            }
            drop(place);
        });
    }
}

async fn over_udp(resolver: &Resolver, bytes: &[u8]) -> Option<Vec<u8>> {
    let Ok(query) = Message::from_vec(bytes) else { return unreadable(bytes) };
    let answer = resolver.resolve(&query).await;
    answer::fitting(&query, &answer)
}

async fn connections(listener: TcpListener, resolver: Arc<Resolver>) {
    let room = Arc::new(Semaphore::new(MOST));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "no connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let resolver = Arc::clone(&resolver);
        open.spawn(async move {
            // Clients end their connections as they like.
            let _ = connection(stream, &resolver).await;
            drop(place);
        });
    }
}

async fn connection(mut stream: TcpStream, resolver: &Resolver) -> io::Result<()> {
    loop {
        let Ok(read) = timeout(IDLE, read_message(&mut stream)).await else { return Ok(()) };
        let bytes = read?;
        let answer = match Message::from_vec(&bytes) {
            Ok(query) => resolver.resolve(&query).await.to_vec().ok(),
            Err(_) => unreadable(&bytes),
        };
        let Some(answer) = answer else { return Ok(()) };
        match timeout(IDLE, write_message(&mut stream, &answer)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
    }
}

/// The answer to what is no query; nothing if it hasn't even a number, or is an answer itself.
fn unreadable(bytes: &[u8]) -> Option<Vec<u8>> {
    let [high, low, flags, ..] = bytes else { return None };
    if flags & 0x80 != 0 {
        return None;
    }
    let id = u16::from_be_bytes([*high, *low]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}

#[cfg(test)]
mod tests;
