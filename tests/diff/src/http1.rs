//! HTTP/1 messages as bytes: enough of a reader to see where one ends.

use anyhow::{Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A message as it came.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) first: String,
    /// The header lines, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub(crate) body: Vec<u8>,
    /// Trailer lines.
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether it is whole.
    pub(crate) whole: bool,
    /// How the body ends.
    pub(crate) framing: &'static str,
}

impl Message {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.first.split(' ').nth(1)?.parse().ok()
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.ends_with("chunked"))
    }
}

/// Reads messages off a connection.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    from: R,
    seen: Vec<u8>,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, seen: Vec::new(), ended: false }
    }

    /// The next response; `None`: the connection ended before it. `head`: it has no body.
    pub(crate) async fn response(&mut self, head: bool) -> Result<Option<Message>> {
        let Some(mut message) = self.head().await? else { return Ok(None) };
        let status = message.status().unwrap_or_default();
        if head || matches!(status, 100..=199 | 204 | 304) {
            message.whole = true;
            message.framing = "none";
            return Ok(Some(message));
        }
        self.body(&mut message, true).await?;
        Ok(Some(message))
    }

    /// The next request; `None`: the connection ended before it.
    pub(crate) async fn request(&mut self) -> Result<Option<Message>> {
        let Some(mut message) = self.head().await? else { return Ok(None) };
        self.body(&mut message, false).await?;
        Ok(Some(message))
    }

    /// Everything until the connection ends.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.seen)
    }

    async fn head(&mut self) -> Result<Option<Message>> {
        let end = loop {
            if let Some(end) = self.seen.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if !self.fill().await {
                return Ok(None);
            }
        };
        let head: Vec<u8> = self.seen.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        Ok(Some(Message { first, headers: fields(lines), ..Message::default() }))
    }

    async fn body(&mut self, message: &mut Message, is_response: bool) -> Result<()> {
        if message.is_chunked() {
            message.framing = "chunked";
            return self.chunks(message).await;
        }
        if let Some(length) = message.header("content-length") {
            let length: usize = length.parse()?;
            message.framing = "length";
            while self.seen.len() < length && self.fill().await {}
            message.whole = self.seen.len() >= length;
            message.body = self.seen.drain(..length.min(self.seen.len())).collect();
            return Ok(());
        }
        message.whole = true;
        if is_response {
            message.framing = "close";
            message.body = self.rest().await;
        } else {
            message.framing = "none";
        }
        Ok(())
    }

    async fn chunks(&mut self, message: &mut Message) -> Result<()> {
        loop {
            let Some(line) = self.line().await else { return Ok(()) };
            let size = line.split(';').next().unwrap_or_default().trim();
            let Ok(size) = usize::from_str_radix(size, 16) else { bail!("chunk size {line:?}") };
            if size == 0 {
                break;
            }
            while self.seen.len() < size + 2 && self.fill().await {}
            if self.seen.len() < size + 2 {
                return Ok(());
            }
            message.body.extend(self.seen.drain(..size));
            self.seen.drain(..2);
        }
        let mut trailers = Vec::new();
        loop {
            let Some(line) = self.line().await else { return Ok(()) };
            if line.is_empty() {
                break;
            }
            trailers.push(line);
        }
        message.trailers = fields(trailers.iter().map(String::as_str));
        message.whole = true;
        Ok(())
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.seen.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.seen.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads more; false at the end, also when the connection was reset.
    async fn fill(&mut self) -> bool {
        if !self.ended {
            self.ended = !matches!(self.from.read_buf(&mut self.seen).await, Ok(read) if read > 0);
        }
        !self.ended
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let split = lines.map(|line| line.split_once(':').unwrap_or((line, "")));
    split.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}
