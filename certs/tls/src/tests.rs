//! Handshakes between real clients and servers over in-memory pipes.

mod authority;
mod identity;
mod protocol;
mod records;
mod revocation;

use crate::{
    ClientTls, ClientTlsSpec, Handshake, ServerTls, ServerTlsSpec, TlsError, ValidationSpec,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

pub(crate) use authority::{Authority, Leaf};

pub(crate) const SERVER_ID: &str = "spiffe://td/ns/default/sa/server";
pub(crate) const CLIENT_ID: &str = "spiffe://td/ns/default/sa/client";

/// What each side saw of one exchange.
pub(crate) struct Outcome {
    pub(crate) client: Result<Handshake, TlsError>,
    pub(crate) server: Result<Handshake, TlsError>,
}

/// Does a handshake and sends one byte each way, so that late refusals and tickets arrive too.
pub(crate) async fn exchange(client: &ClientTls, server: &ServerTls) -> Outcome {
    exchange_with(client, server, None, None).await
}

pub(crate) async fn exchange_with(
    client: &ClientTls,
    server: &ServerTls,
    sni: Option<&str>,
    alpn: Option<&[Vec<u8>]>,
) -> Outcome {
    let (near, far) = duplex(64 * 1024);
    let (client, server) =
        tokio::join!(run_client(client, near, sni, alpn), run_server(server, far));
    Outcome { client, server }
}

async fn run_client(
    client: &ClientTls,
    io: DuplexStream,
    sni: Option<&str>,
    alpn: Option<&[Vec<u8>]>,
) -> Result<Handshake, TlsError> {
    let mut stream = client.connect(io, sni, alpn).await?;
    stream.write_all(b"?").await?;
    stream.read_u8().await?;
    Ok(stream.handshake().clone())
}

async fn run_server(server: &ServerTls, io: DuplexStream) -> Result<Handshake, TlsError> {
    let mut stream = server.accept(io).await?;
    stream.read_u8().await?;
    stream.write_all(b"!").await?;
    stream.flush().await?;
    Ok(stream.handshake().clone())
}

pub(crate) fn server(spec: &ServerTlsSpec) -> ServerTls {
    ServerTls::new(spec).unwrap()
}

pub(crate) fn client(spec: &ClientTlsSpec) -> ClientTls {
    ClientTls::new(spec).unwrap()
}

/// A server with the usual identity, asking for client certificates of the same authority.
pub(crate) fn mutual_server(authority: &Authority) -> ServerTlsSpec {
    let certificate = authority.issue(&Leaf::uri(SERVER_ID));
    ServerTlsSpec {
        validation: Some(ValidationSpec::new(authority.bundle(), Vec::new())),
        require_client_certificate: true,
        ..ServerTlsSpec::new(vec![certificate])
    }
}

/// A client with the usual identity that wants the usual server.
pub(crate) fn mutual_client(authority: &Authority) -> ClientTlsSpec {
    let matcher = crate::SanMatcher::uri(SERVER_ID);
    ClientTlsSpec {
        certificate: Some(authority.issue(&Leaf::uri(CLIENT_ID))),
        validation: Some(ValidationSpec::new(authority.bundle(), vec![matcher])),
        ..ClientTlsSpec::default()
    }
}
