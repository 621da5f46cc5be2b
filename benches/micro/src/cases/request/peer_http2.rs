//! A client and a backend of HTTP/2 on one thread.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use super::Peers;

pub(super) fn run(peers: Peers, path: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(talk(peers, path))
}

async fn talk(mut peers: Peers, path: &str) -> Result<()> {
    peers.backend.set_nonblocking(true)?;
    let backend = TcpListener::from_std(peers.backend)?;
    tokio::spawn(serve(backend));
    let stream = TcpStream::connect(peers.proxy).await?;
    stream.set_nodelay(true)?;
    let (mut client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    while let Some(count) = peers.go.recv().await {
        for _ in 0..count {
            client = client.ready().await?;
            let request = http::Request::get(format!("http://micro{path}")).body(())?;
            let (response, _) = client.send_request(request, true)?;
            let response = response.await?;
            ensure!(response.status() == 200, "unexpected status {}", response.status());
            let mut body = response.into_body();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
        }
        peers.done.send(()).await.context("the proxy's thread is gone")?;
    }
    Ok(())
}

async fn serve(backend: TcpListener) -> Result<()> {
    let (stream, _) = backend.accept().await?;
    stream.set_nodelay(true)?;
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (_request, mut respond) = request?;
        let mut body = respond.send_response(http::Response::new(()), false)?;
        body.send_data(Bytes::from_static(b"Hello, world!"), true)?;
    }
    Ok(())
}
