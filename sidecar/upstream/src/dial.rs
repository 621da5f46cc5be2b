//! Making a connection: socket options, source address, connect, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;
use weft_model::{Cluster, ClusterHandle, EndpointAddress, TransportChoice};

use crate::UpstreamError;
use crate::client::{self, Client};
use crate::error::tls_failed;
use crate::eyeballs;
use crate::stream::{Channel, CountedConnection, Socket, UpstreamStream};

/// Where to connect and what to say in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: EndpointAddress,
    /// Other ways to the same endpoint.
    pub(crate) more: Option<Arc<[SocketAddr]>>,
    /// Whom the connection is made for, if it shows.
    pub(crate) client: Option<Arc<Client>>,
    pub(crate) transport: TransportChoice,
    /// Instead of the configured server name.
    pub(crate) sni: Option<Box<str>>,
    /// Instead of the configured protocols.
    pub(crate) alpn: Option<Arc<[Vec<u8>]>>,
}

/// Connects within `connect_timeout`, and counts what comes of it.
pub(crate) async fn dial(
    cluster: &ClusterHandle,
    target: &Target,
    counted: CountedConnection,
) -> Result<UpstreamStream, UpstreamError> {
    let stats = cluster.stats();
    let limit = cluster.config().connect_timeout;
    let result = match timeout(limit, open(cluster, target)).await {
        Ok(result) => result,
        Err(_) => Err(UpstreamError::ConnectTimeout { address: target.address.clone(), limit }),
    };
    if let Err(error) = &result {
        if matches!(error, UpstreamError::ConnectTimeout { .. }) {
            stats.cx_connect_timeout.inc();
        }
        stats.cx_connect_fail.inc();
        counted.host().cx_connect_fail.inc_shared();
    }
    result.map(|channel| UpstreamStream::new(channel, counted))
}

/// Connects, however long it takes.
pub(crate) async fn open(
    cluster: &ClusterHandle,
    target: &Target,
) -> Result<Channel, UpstreamError> {
    let config = Arc::clone(&cluster.config());
    let transport = config.socket(target.transport);
    let tls = match transport.tls() {
        None => None,
        Some(slot) => Some(slot.get().ok_or(UpstreamError::SecretsNotReady)?),
    };
    let failed = |error: io::Error| UpstreamError::ConnectFailed {
        address: target.address.clone(),
        reason: error.to_string().into(),
    };
    let mut socket = connect(&config, target).await.map_err(failed)?;
    if let Some(header) = transport.header() {
        let header = client::header(header, target.client.as_deref(), socket.addresses());
        socket.write_all(&header).await.map_err(failed)?;
    }
    let Some(tls) = tls else { return Ok(Channel::Raw(socket)) };
    match tls.connect(socket, target.sni.as_deref(), target.alpn.as_deref()).await {
        Ok(stream) => {
            cluster.stats().ssl_handshake.inc();
            Ok(Channel::Tls(Box::new(stream)))
        }
        Err(error) => {
            cluster.stats().ssl_connection_error.inc();
            Err(tls_failed(&error))
        }
    }
}

async fn connect(config: &Cluster, target: &Target) -> io::Result<Socket> {
    let source = target.client.as_ref().and_then(|client| client.source);
    match (&target.address, &target.more) {
        (EndpointAddress::Socket(address), None) => {
            connect_tcp(config, *address, source).await.map(Socket::Tcp)
        }
        (EndpointAddress::Socket(address), Some(more)) => {
            let connect = |address| connect_tcp(config, address, source);
            let order = eyeballs::order(*address, more);
            Box::pin(eyeballs::race(order, connect)).await.map(Socket::Tcp)
        }
        (EndpointAddress::Pipe(path), _) => connect_unix(path).await.map(Socket::Unix),
    }
}

async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

async fn connect_tcp(
    config: &Cluster,
    address: SocketAddr,
    client: Option<(SocketAddr, u32)>,
) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking();
    let socket = RawSocket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    let client = client.filter(|(source, _)| source.is_ipv4() == address.is_ipv4());
    if let Some((source, mark)) = client {
        bind_as(&socket, source, mark)?;
    } else {
        let source = config.bind.iter().find(|source| source.is_ipv4() == address.is_ipv4());
        if let Some(source) = source {
            bind(&socket, *source)?;
        }
    }
    let stream = TcpSocket::from_std_stream(socket.into()).connect(address).await?;
    stream.set_nodelay(true)?;
    if let Some(keepalive) = &config.tcp_keepalive {
        let mut options = TcpKeepalive::new();
        options = keepalive.time.map_or(options.clone(), |time| options.with_time(time));
        options = match keepalive.interval {
            Some(interval) => options.with_interval(interval),
            None => options,
        };
        options = match keepalive.probes {
            Some(probes) => options.with_retries(probes),
            None => options,
        };
        SockRef::from(&stream).set_tcp_keepalive(&options)?;
    }
    Ok(stream)
}

/// Binds to a source address that need not be one of the machine's (Istio's `::6` is not). The
/// port is chosen at connect, so that one source address is good for many destinations.
fn bind(socket: &RawSocket, source: IpAddr) -> io::Result<()> {
    match source {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(source, 0).into())
}

/// Binds to the client's address, which is not one of the machine's. That needs `CAP_NET_ADMIN`,
/// and a mark by which routes lead the answers back here.
fn bind_as(socket: &RawSocket, source: SocketAddr, mark: u32) -> io::Result<()> {
    match source {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    if source.port() == 0 {
        setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
    } else {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&source.into())
}
