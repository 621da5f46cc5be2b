//! Where an intercepted connection wanted to go.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The destination before the REDIRECT of iptables (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`).
///
/// `None`: the kernel does not track the connection, so nobody redirected it.
pub(crate) fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let local = stream.local_addr().ok()?;
    let address = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        // A connection of IPv4 to a dual-stack socket is tracked as IPv4.
        SocketAddr::V6(local) if local.ip().to_ipv4_mapped().is_some() => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    address.ok()?.as_socket()
}
