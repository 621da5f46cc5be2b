//! Large bodies, up and down in turn.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::http1::content_length;
use super::{Outcome, Part, Window, collect};
use crate::backend::BODY_LENGTH;

/// Bytes of one read or write.
const CHUNK: usize = 256 << 10;

/// Runs so many clients; bytes of unfinished bodies count as well.
pub(super) async fn clients(
    address: SocketAddr,
    clients: usize,
    window: Window,
) -> Result<Outcome> {
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        // Half of them begin with the other direction, so that both are always there.
        tasks.spawn(Client::run(address, window, client % 2 == 0));
    }
    collect(tasks, window).await
}

struct Client {
    stream: TcpStream,
    address: SocketAddr,
    window: Window,
    buffer: Vec<u8>,
    part: Part,
}

impl Client {
    async fn run(address: SocketAddr, window: Window, up_first: bool) -> Result<Part> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let buffer = vec![7; CHUNK];
        let mut client = Self { stream, address, window, buffer, part: Part::default() };
        let mut up = up_first;
        while Instant::now() < window.until {
            if up {
                client.put().await?;
            } else {
                client.get().await?;
            }
            up = !up;
        }
        Ok(client.part)
    }

    async fn put(&mut self) -> Result<()> {
        let head = format!(
            "PUT /body HTTP/1.1\r\nhost: {}\r\ncontent-length: {BODY_LENGTH}\r\n\r\n",
            self.address
        );
        self.stream.write_all(head.as_bytes()).await?;
        let mut left = BODY_LENGTH;
        while left > 0 {
            if self.over() {
                return Ok(());
            }
            let chunk = left.min(CHUNK as u64) as usize;
            self.stream.write_all(&self.buffer[..chunk]).await?;
            self.part.pass(chunk, self.window);
            left -= chunk as u64;
        }
        self.answer(false).await
    }

    async fn get(&mut self) -> Result<()> {
        let head = format!("GET /body HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        self.stream.write_all(head.as_bytes()).await?;
        self.answer(true).await
    }

    /// Reads a head and its body; counts the body's bytes if they are what was asked for.
    async fn answer(&mut self, counts: bool) -> Result<()> {
        let mut filled = 0;
        let end = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            ensure!(read > 0, "the proxy closed a connection");
            filled += read;
            if let Some(end) = memmem::find(&self.buffer[..filled], b"\r\n\r\n") {
                break end;
            }
        };
        let length = content_length(&self.buffer[..end])?;
        let length = length.ok_or_else(|| anyhow::anyhow!("a body without a length"))?;
        let mut left = length - (filled - end - 4) as u64;
        while left > 0 {
            if self.over() {
                return Ok(());
            }
            let read = self.stream.read(&mut self.buffer).await?;
            ensure!(read > 0, "the proxy closed a connection");
            left -= read as u64;
            if counts {
                self.part.pass(read, self.window);
            }
        }
        Ok(())
    }

    /// Whether the rest no longer counts; the connection is then left as it is.
    fn over(&self) -> bool {
        Instant::now() >= self.window.until
    }
}
