//! HTTP/1.1 with large bodies.

use std::io::{self, ErrorKind};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of a body.
pub(crate) const BODY_LENGTH: u64 = 64 << 20;
/// Bytes of one read or write.
const CHUNK: usize = 256 << 10;

/// Answers GET with a body; reads the body of a PUT and answers shortly.
pub(super) async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![7; CHUNK];
    let mut filled = 0;
    loop {
        let end = loop {
            if let Some(end) = memmem::find(&buffer[..filled], b"\r\n\r\n") {
                break end + 4;
            }
            match stream.read(&mut buffer[filled..]).await? {
                0 => return Ok(()),
                read => filled += read,
            }
        };
        if buffer.starts_with(b"PUT ") {
            receive(&mut stream, &mut buffer, (filled - end) as u64).await?;
        } else {
            send(&mut stream, &buffer).await?;
        }
        filled = 0;
    }
}

/// Reads a body of which `read` bytes came with the head: as long as bodies are here, in whatever
/// framing has no bytes of its own.
async fn receive(stream: &mut TcpStream, buffer: &mut [u8], read: u64) -> io::Result<()> {
    let mut left = BODY_LENGTH.checked_sub(read).ok_or(ErrorKind::InvalidData)?;
    while left > 0 {
        let most = left.min(CHUNK as u64) as usize;
        match stream.read(&mut buffer[..most]).await? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => left -= read as u64,
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await
}

async fn send(stream: &mut TcpStream, buffer: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY_LENGTH}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut left = BODY_LENGTH;
    while left > 0 {
        let chunk = left.min(CHUNK as u64) as usize;
        stream.write_all(&buffer[..chunk]).await?;
        left -= chunk as u64;
    }
    Ok(())
}
