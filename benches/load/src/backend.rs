//! The servers behind the proxies; as cheap as they can be.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::process::pin_load;

/// What a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// HTTP/1.1 with a small reply.
    Http1,
    /// HTTP/2 with prior knowledge and a small reply.
    Http2,
    /// Sends what it gets back.
    Echo,
}

const REPLY: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, world!";
const BODY: &[u8] = b"Hello, world!";

/// Starts a backend on a thread of its own; it runs until the process ends.
pub(crate) fn start(service: Service) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("{service:?}")).spawn(move || -> Result<()> {
        pin_load()?;
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(async move {
                    // A client that goes away ends its connection and nothing else.
                    match service {
                        Service::Http1 => drop(http1(stream).await),
                        Service::Http2 => drop(http2(stream).await),
                        Service::Echo => drop(echo(stream).await),
                    }
                });
            }
        })
    })?;
    Ok(address)
}

/// Answers each request head; requests have no body.
async fn http1(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let heads = buffer[..filled].windows(4).filter(|window| window == b"\r\n\r\n").count();
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            for _ in 0..heads {
                stream.write_all(REPLY).await?;
            }
            filled = 0;
        }
    }
}

async fn http2(stream: TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(1000)
        .initial_connection_window_size(1 << 20)
        .handshake::<_, Bytes>(stream)
        .await?;
    while let Some(request) = connection.accept().await {
        let (_request, mut respond) = request?;
        let response = http::Response::builder().header("content-type", "text/plain").body(());
        let Ok(response) = response else { continue };
        if let Ok(mut body) = respond.send_response(response, false) {
            drop(body.send_data(Bytes::from_static(BODY), true));
        }
    }
    Ok(())
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..read]).await?;
    }
}
