//! HTTP/1.1 with a small reply.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const REPLY: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, world!";

/// Answers each request head; requests have no body.
pub(super) async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            for _ in memchr::memmem::find_iter(&buffer[..filled], b"\r\n\r\n") {
                stream.write_all(REPLY).await?;
            }
            filled = 0;
        }
    }
}
