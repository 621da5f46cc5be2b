//! gRPC as it is on the wire: length-prefixed messages, the status in the trailers.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use tokio::task::JoinSet;

use super::{Outcome, Part, STREAMS, Window, collect, http2};

/// Bytes of a message, its prefix left out.
const MESSAGE: usize = 32;
/// Bytes of the prefix: a flag and a length.
const PREFIX: usize = 5;

/// Runs so many loops of calls with one message each way.
pub(super) async fn unary(address: SocketAddr, clients: usize, window: Window) -> Result<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..(clients / STREAMS).max(1) {
        let client = http2::connect(address).await?;
        for _ in 0..STREAMS {
            tasks.spawn(calls(client.clone(), window));
        }
    }
    collect(tasks, window).await
}

/// Runs so many streams that send a message when they got one.
pub(super) async fn streams(
    address: SocketAddr,
    clients: usize,
    window: Window,
) -> Result<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..(clients / STREAMS).max(1) {
        let client = http2::connect(address).await?;
        for _ in 0..STREAMS {
            tasks.spawn(ping_pong(client.clone(), window));
        }
    }
    collect(tasks, window).await
}

async fn calls(client: SendRequest<Bytes>, window: Window) -> Result<Part> {
    let message = message();
    let mut part = Part::default();
    let mut client = client;
    loop {
        let start = Instant::now();
        if start >= window.until {
            return Ok(part);
        }
        client = client.ready().await.context("the connection")?;
        let (response, mut send) = client.send_request(request()?, false)?;
        send.send_data(message.clone(), true)?;
        let mut body = answer(response).await?;
        let mut received = Received::default();
        received.message(&mut body).await?;
        finish(&mut body).await?;
        part.record(start, window);
    }
}

async fn ping_pong(client: SendRequest<Bytes>, window: Window) -> Result<Part> {
    let message = message();
    let mut part = Part::default();
    let mut client = client.ready().await.context("the connection")?;
    let (response, mut send) = client.send_request(request()?, false)?;
    send.send_data(message.clone(), false)?;
    let mut body = answer(response).await?;
    let mut received = Received::default();
    let mut start = Instant::now();
    loop {
        received.message(&mut body).await?;
        part.record(start, window);
        start = Instant::now();
        if start >= window.until {
            send.send_data(Bytes::new(), true)?;
            finish(&mut body).await?;
            return Ok(part);
        }
        send.send_data(message.clone(), false)?;
    }
}

fn request() -> Result<http::Request<()>> {
    let request = http::Request::post("http://bench/weft.bench.Echo/Call")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "grpc-bench")
        .body(())?;
    Ok(request)
}

fn message() -> Bytes {
    let mut message = BytesMut::with_capacity(PREFIX + MESSAGE);
    message.put_u8(0);
    message.put_u32(MESSAGE as u32);
    message.put_bytes(b'm', MESSAGE);
    message.freeze()
}

async fn answer(response: ResponseFuture) -> Result<RecvStream> {
    let response = response.await?;
    ensure!(response.status() == 200, "unexpected status {}", response.status());
    Ok(response.into_body())
}

/// Reads the end of the stream and its status.
async fn finish(body: &mut RecvStream) -> Result<()> {
    while let Some(data) = body.data().await {
        ensure!(data?.is_empty(), "more messages than were sent");
    }
    let trailers = body.trailers().await?.context("no trailers")?;
    let status = trailers.get("grpc-status").context("no grpc-status")?;
    ensure!(status == "0", "gRPC status {status:?}");
    Ok(())
}

/// Bytes of a message that came so far.
#[derive(Default)]
struct Received(usize);

impl Received {
    /// Waits for one whole message.
    async fn message(&mut self, body: &mut RecvStream) -> Result<()> {
        while self.0 < PREFIX + MESSAGE {
            let data = body.data().await.context("the stream ended early")??;
            body.flow_control().release_capacity(data.len())?;
            self.0 += data.len();
        }
        self.0 -= PREFIX + MESSAGE;
        Ok(())
    }
}
