//! HTTP/2 with prior knowledge.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Outcome, Part, STREAMS, Window, collect};

/// Runs so many streams, several on each connection.
pub(super) async fn clients(
    address: SocketAddr,
    clients: usize,
    window: Window,
) -> Result<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..(clients / STREAMS).max(1) {
        let client = connect(address).await?;
        for _ in 0..STREAMS {
            tasks.spawn(stream(client.clone(), window));
        }
    }
    collect(tasks, window).await
}

/// A connection, driven by a task of its own.
pub(super) async fn connect(address: SocketAddr) -> Result<h2::client::SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn stream(client: h2::client::SendRequest<Bytes>, window: Window) -> Result<Part> {
    let mut part = Part::default();
    let mut client = client;
    loop {
        let start = Instant::now();
        if start >= window.until {
            return Ok(part);
        }
        client = client.ready().await.context("the connection")?;
        let request =
            http::Request::get("http://bench/hello").header("user-agent", "bench").body(())?;
        let (response, _) = client.send_request(request, true)?;
        let response = response.await?;
        ensure!(response.status() == 200, "unexpected status {}", response.status());
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data?.len())?;
        }
        part.record(start, window);
    }
}
