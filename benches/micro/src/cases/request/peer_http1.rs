//! A client and a backend of HTTP/1.1 in one thread: both ends in turn.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Result, ensure};

use super::Peers;

const REPLY: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, world!";

pub(super) fn run(mut peers: Peers, path: &str) -> Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: micro\r\nuser-agent: bench\r\n\r\n");
    let mut client = TcpStream::connect(peers.proxy)?;
    client.set_nodelay(true)?;
    let mut upstream = None;
    while let Some(count) = peers.go.blocking_recv() {
        for _ in 0..count {
            client.write_all(request.as_bytes())?;
            if upstream.is_none() {
                upstream = Some(peers.backend.accept()?.0);
            }
            if let Some(upstream) = &mut upstream {
                read_until(upstream, b"\r\n\r\n")?;
                upstream.write_all(REPLY)?;
            }
            read_until(&mut client, b"Hello, world!")?;
        }
        peers.done.blocking_send(())?;
    }
    Ok(())
}

fn read_until(stream: &mut TcpStream, end: &[u8]) -> Result<()> {
    let mut buffer = [0; 4096];
    let mut filled = 0;
    while !buffer[..filled].ends_with(end) {
        let read = stream.read(&mut buffer[filled..])?;
        ensure!(read > 0, "the proxy closed a connection");
        filled += read;
    }
    Ok(())
}
