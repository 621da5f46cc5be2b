//! Buffers of one thread, lent to connections only while bytes are in flight.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Sizes, bytes: a small record; any one record; what a read or write of 64 KiB makes, and one of
/// 256 KiB.
const SIZES: [usize; 4] = [4 << 10, 20 << 10, 68 << 10, 264 << 10];
/// How many buffers of each size are kept for the next use.
const KEPT: [usize; 4] = [64, 32, 8, 2];

thread_local! {
    static POOL: RefCell<[Vec<Box<[u8]>>; 4]> = const { RefCell::new([const { Vec::new() }; 4]) };
}

/// A buffer of the pool, which it returns to when dropped.
struct Buffer {
    bytes: Box<[u8]>,
    class: usize,
}

impl Buffer {
    /// A buffer with room for `size` bytes, or the largest; its content is arbitrary.
    fn take(size: usize) -> Self {
        let class = SIZES.iter().position(|have| *have >= size).unwrap_or(SIZES.len() - 1);
        let kept = POOL.with(|pool| pool.borrow_mut()[class].pop());
        let bytes = kept.unwrap_or_else(|| vec![0; SIZES[class]].into_boxed_slice());
        Self { bytes, class }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // While the thread ends the pool may be gone; then the buffer just goes too.
        let _ = POOL.try_with(|pool| {
            let kept = &mut pool.borrow_mut()[self.class];
            if kept.len() < KEPT[self.class] {
                kept.push(bytes);
            }
        });
    }
}

/// Bytes that have come from the transport. Holds no buffer while it is empty.
#[derive(Default)]
pub(crate) struct Inbox {
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
    /// How much the next read asks for; follows what the last ones gave.
    wanted: usize,
}

impl Inbox {
    /// An inbox that holds these bytes already.
    pub(crate) fn holding(parts: [&[u8]; 2]) -> Self {
        let mut inbox = Self::default();
        let size = parts[0].len() + parts[1].len();
        if size > 0 {
            let mut buffer = Buffer::take(size);
            buffer.bytes[..parts[0].len()].copy_from_slice(parts[0]);
            buffer.bytes[parts[0].len()..size].copy_from_slice(parts[1]);
            inbox.buffer = Some(buffer);
            inbox.end = size;
        }
        inbox
    }

    /// What has come and was not consumed.
    pub(crate) fn filled(&mut self) -> &mut [u8] {
        match &mut self.buffer {
            Some(buffer) => &mut buffer.bytes[self.start..self.end],
            None => &mut [],
        }
    }

    /// Whether all that has come was consumed.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes bytes off the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    /// Gives the buffer back when nothing is in it.
    pub(crate) fn release(&mut self) {
        if self.start == self.end {
            self.buffer = None;
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once, with room for at least `least` bytes in all. Zero: the transport has ended.
    pub(crate) fn poll_fill<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
        least: usize,
    ) -> Poll<io::Result<usize>> {
        let room = self.room(least);
        let size = room.len();
        let mut read = ReadBuf::new(room);
        let result = Pin::new(io).poll_read(cx, &mut read);
        let count = read.filled().len();
        self.end += count;
        let held = self.buffer.as_ref().map_or(0, |buffer| buffer.bytes.len());
        if count == size {
            self.wanted = held + 1;
        } else if count > 0 && self.end < held / 4 {
            self.wanted = 2 * self.end;
        }
        self.release();
        ready!(result)?;
        Poll::Ready(Ok(count))
    }

    /// Room behind what is filled, after it was moved to the front of a buffer that is large enough.
    fn room(&mut self, least: usize) -> &mut [u8] {
        let wanted = least.max(self.wanted);
        let buffer = match self.buffer.take() {
            Some(mut buffer) if buffer.bytes.len() >= least => {
                buffer.bytes.copy_within(self.start..self.end, 0);
                buffer
            }
            Some(small) => {
                let mut buffer = Buffer::take(wanted);
                let filled = &small.bytes[self.start..self.end];
                buffer.bytes[..filled.len()].copy_from_slice(filled);
                buffer
            }
            None => Buffer::take(wanted),
        };
        self.end -= self.start;
        self.start = 0;
        let buffer = self.buffer.insert(buffer);
        &mut buffer.bytes[self.end..]
    }
}

/// Bytes on their way to the transport. Holds no buffer while it is empty.
#[derive(Default)]
pub(crate) struct Outbox {
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
}

impl Outbox {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_none()
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Room for `size` bytes behind those that wait; less only when they fill the largest buffer.
    pub(crate) fn room(&mut self, size: usize) -> &mut [u8] {
        let needed = self.end + size;
        let buffer = match self.buffer.take() {
            Some(buffer) if buffer.bytes.len() >= needed => buffer,
            Some(small) => {
                let mut buffer = Buffer::take(needed);
                let filled = self.start..self.end;
                buffer.bytes[..filled.len()].copy_from_slice(&small.bytes[filled.clone()]);
                (self.start, self.end) = (0, filled.len());
                buffer
            }
            None => Buffer::take(size),
        };
        &mut self.buffer.insert(buffer).bytes[self.end..]
    }

    /// Takes over bytes that were written into the room; none gives the buffer back.
    pub(crate) fn advance(&mut self, count: usize) {
        self.end += count;
        self.release();
    }

    /// Writes all that waits.
    pub(crate) fn poll_drain<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(buffer) = &self.buffer {
            let bytes = &buffer.bytes[self.start..self.end];
            match ready!(Pin::new(&mut *io).poll_write(cx, bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.start += count,
            }
            self.release();
        }
        Poll::Ready(Ok(()))
    }

    fn release(&mut self) {
        if self.start == self.end {
            self.buffer = None;
            (self.start, self.end) = (0, 0);
        }
    }
}
