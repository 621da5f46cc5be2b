//! Connections that are opened and held.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::http1::{exchange, request};

/// How many are being opened at a time.
const AT_A_TIME: usize = 256;
/// What an HTTP/2 client says first: the preface and an empty SETTINGS frame (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Opens HTTP/1.1 connections, each with one request that was answered.
pub(crate) async fn http1(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let request = request(address, "/hello");
    open(address, count, move |mut stream| {
        let request = request.clone();
        async move {
            exchange(&mut stream, &request, &mut vec![0; 8 << 10]).await?;
            Ok(stream)
        }
    })
    .await
}

/// Opens HTTP/2 connections that have exchanged their settings.
pub(crate) async fn http2(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    open(address, count, |mut stream| async move {
        stream.write_all(HTTP2_PREFACE).await?;
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        ensure!(header[3] == 4, "the first frame is no SETTINGS: {header:?}");
        Ok(stream)
    })
    .await
}

async fn open<F>(
    address: SocketAddr,
    count: usize,
    greet: impl Fn(tokio::net::TcpStream) -> F + Clone + Send + 'static,
) -> Result<Vec<TcpStream>>
where
    F: Future<Output = Result<tokio::net::TcpStream>> + Send,
{
    let mut tasks = JoinSet::new();
    for opener in 0..AT_A_TIME {
        let greet = greet.clone();
        tasks.spawn(async move {
            let mut own = Vec::new();
            for _ in (opener..count).step_by(AT_A_TIME) {
                let stream = tokio::net::TcpStream::connect(address).await?;
                own.push(greet(stream).await?.into_std()?);
            }
            anyhow::Ok(own)
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(own) = tasks.join_next().await {
        all.extend(own??);
    }
    Ok(all)
}
