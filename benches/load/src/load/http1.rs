//! HTTP/1.1.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Outcome, Part, Window, collect};

/// Runs closed loops that ask for `path`.
pub(crate) async fn clients(
    address: SocketAddr,
    clients: usize,
    window: Window,
    path: String,
) -> Result<Outcome> {
    let request = request(address, &path);
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(client(address, window, request.clone()));
    }
    collect(tasks, window).await
}

/// The bytes of a small request.
pub(super) fn request(address: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: bench\r\n\r\n").into_bytes()
}

async fn client(address: SocketAddr, window: Window, request: Vec<u8>) -> Result<Part> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 8 << 10];
    let mut part = Part::default();
    loop {
        let start = Instant::now();
        if start >= window.until {
            return Ok(part);
        }
        exchange(&mut stream, &request, &mut buffer).await?;
        part.record(start, window);
    }
}

/// Sends a request and reads the whole answer.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
    buffer: &mut [u8],
) -> Result<()> {
    stream.write_all(request).await?;
    let mut filled = 0;
    while !complete(&buffer[..filled])? {
        let read = stream.read(&mut buffer[filled..]).await?;
        ensure!(read > 0, "the proxy closed a connection");
        filled += read;
    }
    Ok(())
}

/// Whether a whole response is there: a head with `200` and a `content-length` or one chunk.
fn complete(bytes: &[u8]) -> Result<bool> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(false) };
    let body = bytes.len() - end - 4;
    match content_length(&bytes[..end])? {
        Some(length) => Ok(body as u64 >= length),
        None => Ok(bytes.ends_with(b"0\r\n\r\n")),
    }
}

/// The length that the head of a response with status 200 gives; absent if it is chunked.
pub(super) fn content_length(head: &[u8]) -> Result<Option<u64>> {
    ensure!(
        head.starts_with(b"HTTP/1.1 200"),
        "unexpected answer: {}",
        String::from_utf8_lossy(head)
    );
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value)?.parse();
            return Ok(Some(length.context("the content-length")?));
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Ok(None);
        }
    }
    bail!("an answer without a length: {}", String::from_utf8_lossy(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert!(complete(answer).unwrap());
        assert!(!complete(&answer[..answer.len() - 1]).unwrap());
        assert!(!complete(b"HTTP/1.1 200 OK\r\n").unwrap());
    }

    #[test]
    fn a_chunked_answer_ends_with_its_last_chunk() {
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert!(complete(answer).unwrap());
        assert!(!complete(&answer[..answer.len() - 5]).unwrap());
    }

    #[test]
    fn an_error_is_no_answer() {
        assert!(complete(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(complete(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
