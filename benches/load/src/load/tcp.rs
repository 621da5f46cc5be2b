//! Bytes over a few TCP connections.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Outcome, Part, Window, collect};

/// Bytes of one write.
const CHUNK: usize = 256 << 10;

/// Sends and receives as much as goes.
pub(super) async fn clients(
    address: SocketAddr,
    clients: usize,
    window: Window,
) -> Result<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(client(address, window));
    }
    collect(tasks, window).await
}

async fn client(address: SocketAddr, window: Window) -> Result<Part> {
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
        let mut part = Part::default();
        loop {
            let read = reader.read(&mut buffer).await?;
            if read == 0 {
                return Ok::<Part, std::io::Error>(part);
            }
            part.pass(read, window);
        }
    };
    let (written, part) = tokio::join!(write, read);
    written?;
    Ok(part?)
}
