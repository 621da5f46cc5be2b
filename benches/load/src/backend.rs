//! The servers behind the proxies; as cheap as they can be.

mod bodies;
mod http1;
mod http2;

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) use self::bodies::BODY_LENGTH;

use crate::process::pin_load;

/// What a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// HTTP/1.1 with a small reply.
    Http1,
    /// HTTP/2 with prior knowledge and a small reply.
    Http2,
    /// Each message comes back.
    Grpc,
    /// HTTP/1.1 with large bodies.
    Bodies,
    /// Sends what it gets back.
    Echo,
}

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
                        Service::Http1 => drop(http1::serve(stream).await),
                        Service::Http2 => drop(http2::serve(stream).await),
                        Service::Grpc => drop(http2::serve_grpc(stream).await),
                        Service::Bodies => drop(bodies::serve(stream).await),
                        Service::Echo => drop(echo(stream).await),
                    }
                });
            }
        })
    })?;
    Ok(address)
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
