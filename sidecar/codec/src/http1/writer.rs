//! Bytes on their way out: small parts are gathered and sent with one call, a large one is sent
//! from where it lies.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use super::buffers;

/// Up to this size copying costs less than sending two parts, bytes.
const COPIED: usize = 4 << 10;
/// As soon as this much is gathered, it is sent, bytes.
const ENOUGH: usize = 16 << 10;
const LINE_END: &[u8; 2] = b"\r\n";

/// What has to be sent: gathered bytes, then a large part, then the end of its line.
#[derive(Debug, Default)]
pub(super) struct Writer {
    gathered: Vec<u8>,
    /// How much of what is gathered was sent.
    sent: usize,
    large: Bytes,
    /// How much of the end of the line behind the large part is left.
    line_end: u8,
    unflushed: bool,
}

impl Writer {
    /// Where small parts are put.
    pub(super) fn gather(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.large.is_empty() && self.line_end == 0, "it would overtake a part");
        if self.gathered.capacity() == 0 {
            self.gathered = buffers::output();
        }
        &mut self.gathered
    }

    /// Adds a part of a body; `line`: with the end of a line behind it.
    pub(super) fn put(&mut self, part: Bytes, line: bool) {
        if part.len() <= COPIED {
            let gathered = self.gather();
            gathered.extend_from_slice(&part);
            if line {
                gathered.extend_from_slice(LINE_END);
            }
        } else {
            self.large = part;
            self.line_end = if line { 2 } else { 0 };
        }
    }

    /// Whether more can be added before something is sent.
    pub(super) fn has_room(&self) -> bool {
        self.large.is_empty() && self.line_end == 0 && self.gathered.len() < ENOUGH
    }

    /// Whether everything was handed to the transport.
    pub(super) fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.large.is_empty() && self.line_end == 0
    }

    /// Sends everything; ready when the transport has it.
    pub(super) fn poll_send(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let count = ready!(self.poll_write(io, cx))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.advance(count);
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let gathered = &self.gathered[self.sent..];
        if self.large.is_empty() && self.line_end == 0 {
            return Pin::new(io).poll_write(cx, gathered);
        }
        let line_end = &LINE_END[LINE_END.len() - usize::from(self.line_end)..];
        let parts = [gathered, &self.large, line_end].map(IoSlice::new);
        let from = usize::from(gathered.is_empty());
        let to = if line_end.is_empty() { 2 } else { 3 };
        match &parts[from..to] {
            [one] => Pin::new(io).poll_write(cx, one),
            several => Pin::new(io).poll_write_vectored(cx, several),
        }
    }

    fn advance(&mut self, mut count: usize) {
        let gathered = count.min(self.gathered.len() - self.sent);
        self.sent += gathered;
        count -= gathered;
        if self.sent == self.gathered.len() {
            self.sent = 0;
            buffers::keep_output(std::mem::take(&mut self.gathered));
        }
        let large = count.min(self.large.len());
        if large == self.large.len() {
            self.large = Bytes::new();
        } else {
            self.large.advance(large);
        }
        count -= large;
        self.line_end -= u8::try_from(count).unwrap_or(u8::MAX).min(self.line_end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes with each call.
    struct Slow {
        step: usize,
        taken: Vec<u8>,
        calls: usize,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = self.step.min(bytes.len());
            self.taken.extend_from_slice(&bytes[..count]);
            self.calls += 1;
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn parts_arrive_in_order_however_few_bytes_are_taken() {
        for step in [1, 2, 3, 7, 4096, 1 << 20] {
            let mut writer = Writer::default();
            let mut io = Slow { step, taken: Vec::new(), calls: 0 };
            let mut cx = Context::from_waker(std::task::Waker::noop());
            writer.gather().extend_from_slice(b"head ");
            writer.put(Bytes::from_static(b"small"), true);
            writer.put(Bytes::from(vec![b'x'; 5000]), true);
            assert!(!writer.has_room());
            assert!(writer.poll_send(&mut io, &mut cx).is_ready());
            writer.put(Bytes::from(vec![b'y'; 5000]), false);
            assert!(writer.poll_send(&mut io, &mut cx).is_ready());
            let expected = [b"head small\r\n", &[b'x'; 5000][..], b"\r\n", &[b'y'; 5000]].concat();
            assert_eq!(io.taken, expected, "{step}");
            if step == 1 << 20 {
                assert_eq!(io.calls, 2);
            }
        }
    }
}
