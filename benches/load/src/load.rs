//! The clients: closed loops, so many at a time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::histogram::Histogram;

/// Streams at a time on each HTTP/2 connection.
const STREAMS: usize = 8;
/// Bytes in flight on each TCP connection.
const CHUNK: usize = 256 << 10;

/// What a run did while it was measured.
pub(crate) struct Outcome {
    /// Latencies of the requests.
    pub(crate) latencies: Histogram,
    /// Bytes both ways, for TCP.
    pub(crate) bytes: u64,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
}

/// From when to when requests count.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

impl Window {
    fn contains(&self, at: Instant) -> bool {
        at >= self.from && at < self.until
    }
}

/// One client's part.
struct Part {
    latencies: Histogram,
    bytes: u64,
}

/// Runs `clients` loops over HTTP/1.1.
pub(crate) async fn http1(address: SocketAddr, clients: usize, window: Window) -> Result<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(http1_client(address, window));
    }
    collect(tasks, window).await
}

/// Runs streams over HTTP/2 with prior knowledge.
pub(crate) async fn http2(address: SocketAddr, clients: usize, window: Window) -> Result<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..(clients / STREAMS).max(1) {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (client, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        for _ in 0..STREAMS {
            tasks.spawn(http2_stream(client.clone(), window));
        }
    }
    collect(tasks, window).await
}

/// Sends and receives as much as goes over a few TCP connections.
pub(crate) async fn tcp(address: SocketAddr, clients: usize, window: Window) -> Result<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(tcp_client(address, window));
    }
    collect(tasks, window).await
}

async fn collect(mut tasks: JoinSet<Result<Part>>, window: Window) -> Result<Outcome> {
    let elapsed = window.until - window.from;
    let mut outcome = Outcome { latencies: Histogram::new(), bytes: 0, elapsed };
    while let Some(part) = tasks.join_next().await {
        let part = part??;
        outcome.latencies.merge(&part.latencies);
        outcome.bytes += part.bytes;
    }
    Ok(outcome)
}

async fn http1_client(address: SocketAddr, window: Window) -> Result<Part> {
    let request = format!("GET /hello HTTP/1.1\r\nhost: {address}\r\nuser-agent: bench\r\n\r\n");
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 8 << 10];
    let mut part = Part { latencies: Histogram::new(), bytes: 0 };
    loop {
        let start = Instant::now();
        if start >= window.until {
            return Ok(part);
        }
        stream.write_all(request.as_bytes()).await?;
        let mut filled = 0;
        while !complete(&buffer[..filled])? {
            let read = stream.read(&mut buffer[filled..]).await?;
            ensure!(read > 0, "the proxy closed a connection");
            filled += read;
        }
        let end = Instant::now();
        if window.contains(end) {
            part.latencies.record((end - start).as_micros() as u64);
        }
    }
}

/// Whether a whole response is there: a head with `200` and a `content-length` or one chunk.
fn complete(bytes: &[u8]) -> Result<bool> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = std::str::from_utf8(&bytes[..end])?.to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "unexpected answer: {head}");
    let body = &bytes[end + 4..];
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length {
        Some(length) => Ok(body.len() >= length.trim().parse::<usize>()?),
        None if head.contains("transfer-encoding: chunked") => Ok(body.ends_with(b"0\r\n\r\n")),
        None => bail!("an answer without a length: {head}"),
    }
}

async fn http2_stream(client: h2::client::SendRequest<Bytes>, window: Window) -> Result<Part> {
    let mut part = Part { latencies: Histogram::new(), bytes: 0 };
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
        let end = Instant::now();
        if window.contains(end) {
            part.latencies.record((end - start).as_micros() as u64);
        }
    }
}

async fn tcp_client(address: SocketAddr, window: Window) -> Result<Part> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.split();
    let write = async {
        let data = vec![7_u8; CHUNK];
        while Instant::now() < window.until {
            writer.write_all(&data).await?;
        }
        writer.shutdown().await
    };
    let read = async {
        let mut buffer = vec![0; CHUNK];
        let mut bytes = 0;
        loop {
            let read = reader.read(&mut buffer).await?;
            if read == 0 {
                return Ok::<u64, std::io::Error>(bytes);
            }
            if window.contains(Instant::now()) {
                bytes += read as u64;
            }
        }
    };
    let (written, bytes) = tokio::join!(write, read);
    written?;
    Ok(Part { latencies: Histogram::new(), bytes: bytes? })
}
