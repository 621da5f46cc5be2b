//! Memory of one worker that is lent while bytes are in flight: nothing idle holds a buffer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::AsyncReadExt;

use crate::Transport;

/// Room for a usual message, bytes.
const SMALL: usize = 8 << 10;
/// Room for a part of a large body, bytes.
const LARGE: usize = 64 << 10;
/// How many of each kind are kept for the next use.
const KEPT: usize = 32;
/// Maps of headers with more room than this are not kept.
const USUAL_HEADERS: usize = 96;
/// Buffers for writing with more room than this are not kept, bytes.
const USUAL_OUTPUT: usize = 32 << 10;

struct Pool {
    small: VecDeque<BytesMut>,
    large: VecDeque<BytesMut>,
    headers: Vec<HeaderMap>,
    outputs: Vec<Vec<u8>>,
}

thread_local! {
    static POOL: RefCell<Pool> = const {
        RefCell::new(Pool {
            small: VecDeque::new(),
            large: VecDeque::new(),
            headers: Vec::new(),
            outputs: Vec::new(),
        })
    };
}

/// While the thread ends the pool may be gone; then there is nothing to lend or to keep.
fn with<T>(use_pool: impl FnOnce(&mut Pool) -> T) -> Option<T> {
    POOL.try_with(|pool| use_pool(&mut pool.borrow_mut())).ok()
}

/// An empty map of headers, usually with room.
pub(super) fn headers() -> HeaderMap {
    with(|pool| pool.headers.pop()).flatten().unwrap_or_default()
}

/// Keeps the room of a map whose message has been sent.
pub(super) fn keep_headers(mut headers: HeaderMap) {
    if (1..=USUAL_HEADERS).contains(&headers.capacity()) {
        headers.clear();
        with(|pool| {
            if pool.headers.len() < KEPT {
                pool.headers.push(headers);
            }
        });
    }
}

/// An empty buffer for writing.
pub(super) fn output() -> Vec<u8> {
    with(|pool| pool.outputs.pop()).flatten().unwrap_or_default()
}

/// Keeps the room of a buffer that has been written.
pub(super) fn keep_output(mut output: Vec<u8>) {
    if (1..=USUAL_OUTPUT).contains(&output.capacity()) {
        output.clear();
        with(|pool| {
            if pool.outputs.len() < KEPT {
                pool.outputs.push(output);
            }
        });
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Class {
    /// There is no buffer.
    #[default]
    None,
    Small,
    Large,
    /// It has grown beyond its size.
    Odd,
}

/// What was read and not yet understood. Parts that were given away may still be in use when the
/// buffer goes back to the pool: it is lent again when they are not.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    bytes: BytesMut,
    class: Class,
    /// Whether the last read found no end of the bytes.
    full: bool,
}

impl ReadBuffer {
    /// What is there.
    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Puts bytes that somebody else has read before everything else.
    pub(super) fn prepend(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.room(bytes.len());
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Gives up the buffer, unless something is in it.
    pub(super) fn release(&mut self) {
        if !self.bytes.is_empty() || self.class == Class::None {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        let class = std::mem::take(&mut self.class);
        self.full = false;
        with(|pool| {
            let kept = match class {
                Class::Small => &mut pool.small,
                Class::Large => &mut pool.large,
                Class::Odd | Class::None => return,
            };
            if kept.len() < KEPT {
                kept.push_back(bytes);
            }
        });
    }

    /// Reads once; zero: the peer has ended its side. `expected`: how many bytes are to come, as
    /// far as is known.
    pub(super) fn poll_fill(
        &mut self,
        io: &mut impl Transport,
        cx: &mut Context<'_>,
        expected: usize,
    ) -> Poll<io::Result<usize>> {
        if self.class == Class::None {
            ready!(io.poll_read_ready(cx))?;
        }
        self.room(if self.full { LARGE } else { expected });
        let room = self.bytes.capacity() - self.bytes.len();
        match pin!(io.read_buf(&mut self.bytes)).poll(cx) {
            Poll::Ready(Ok(count)) => {
                self.full = count == room;
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.release();
                Poll::Pending
            }
        }
    }

    /// Makes room to read into.
    fn room(&mut self, expected: usize) {
        let class = if expected > SMALL { Class::Large } else { Class::Small };
        let size = if expected > SMALL { LARGE } else { SMALL };
        if !self.bytes.is_empty() {
            // The beginning of a message: the rest has to follow it.
            if self.bytes.len() == self.bytes.capacity() {
                self.bytes.reserve(self.bytes.len().max(SMALL));
                self.class = Class::Odd;
            }
            return;
        }
        let fits = match self.class {
            Class::None => false,
            Class::Small => class == Class::Small,
            Class::Large | Class::Odd => true,
        };
        if fits && (self.bytes.capacity() >= size / 2 || self.bytes.try_reclaim(size)) {
            return;
        }
        self.release();
        self.bytes = lend(class, size);
        self.class = class;
    }
}

fn lend(class: Class, size: usize) -> BytesMut {
    let kept = with(|pool| {
        let kept = if class == Class::Large { &mut pool.large } else { &mut pool.small };
        for _ in 0..2 {
            let mut bytes = kept.pop_front()?;
            if bytes.try_reclaim(size) {
                return Some(bytes);
            }
            // Somebody holds a part of it for long; it goes with that part.
        }
        None
    });
    kept.flatten().unwrap_or_else(|| BytesMut::with_capacity(size))
}

/// A stream after HTTP: what was read already comes first.
pub(super) fn poll_leftover(
    buffer: &mut ReadBuffer,
    out: &mut tokio::io::ReadBuf<'_>,
) -> Option<Poll<io::Result<()>>> {
    if buffer.is_empty() {
        return None;
    }
    let count = buffer.len().min(out.remaining());
    let part: Bytes = buffer.bytes().split_to(count).freeze();
    out.put_slice(&part);
    drop(part);
    buffer.release();
    Some(Poll::Ready(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_lent_again_when_its_parts_are_gone() {
        let mut buffer = ReadBuffer::default();
        buffer.prepend(b"head and body");
        let head = buffer.bytes().split_to(4).freeze();
        let body = buffer.bytes().split_to(9).freeze();
        let at = head.as_ptr();
        buffer.release();
        assert_eq!(buffer.bytes().capacity(), 0);
        drop((head, body));
        buffer.prepend(b"next");
        assert_eq!(buffer.bytes().as_ptr(), at);
    }

    #[test]
    fn a_buffer_whose_parts_are_in_use_is_not_written_to() {
        let mut buffer = ReadBuffer::default();
        buffer.prepend(b"head");
        let head = buffer.bytes().split_to(4).freeze();
        buffer.release();
        let mut other = ReadBuffer::default();
        other.prepend(b"XXXX");
        assert_eq!(&head[..], b"head");
        assert_eq!(&other.bytes()[..], b"XXXX");
    }
}
