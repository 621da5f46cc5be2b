//! Making a connection: socket options, source address, connect, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;
use weft_model::{Cluster, ClusterHandle, EndpointAddress, TransportChoice, UpstreamSocket};

use crate::UpstreamError;
use crate::error::tls_failed;
use crate::stream::{Channel, CountedConnection, Socket, UpstreamStream};

/// Where to connect and what to say in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: EndpointAddress,
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
    let tls = match config.socket(target.transport) {
        UpstreamSocket::Raw => None,
        UpstreamSocket::Tls(slot) => Some(slot.get().ok_or(UpstreamError::SecretsNotReady)?),
    };
    let socket =
        connect(&config, &target.address).await.map_err(|error| UpstreamError::ConnectFailed {
            address: target.address.clone(),
            reason: error.to_string().into(),
        })?;
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

async fn connect(config: &Cluster, address: &EndpointAddress) -> io::Result<Socket> {
    match address {
        EndpointAddress::Socket(address) => connect_tcp(config, *address).await.map(Socket::Tcp),
        EndpointAddress::Pipe(path) => connect_unix(path).await.map(Socket::Unix),
    }
}

async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

async fn connect_tcp(config: &Cluster, address: SocketAddr) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking();
    let socket = RawSocket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    let source = config.bind.iter().find(|source| source.is_ipv4() == address.is_ipv4());
    if let Some(source) = source {
        bind(&socket, *source)?;
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
