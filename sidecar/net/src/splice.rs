//! Moving bytes from socket to socket inside the kernel, through a pipe.
//!
//! A pipe is lent only while bytes are in it. Each worker has a bounded number
//! of them; who gets none copies.

use std::cell::{Cell, RefCell};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes that a pipe is to hold. It may hold less where the user's pipes are limited
/// (`pipe-user-pages-soft`).
const SIZE: usize = 512 << 10;
/// Pipes of one worker, lent and kept.
const MOST: usize = 64;
/// Pipes that are kept for the next use.
const KEPT: usize = 8;

thread_local! {
    static POOL: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

struct Ends {
    read: PipeReader,
    write: PipeWriter,
}

/// A pipe of the pool; it returns there when dropped empty, else it is closed.
pub(crate) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// An empty pipe; `None` when the worker has too many, or the process too many files.
    pub(crate) fn take() -> Option<Self> {
        let kept = POOL.with(|pool| pool.borrow_mut().pop());
        let ends = match kept {
            Some(ends) => ends,
            None if LIVE.get() >= MOST => return None,
            None => {
                let ends = open().ok()?;
                LIVE.set(LIVE.get() + 1);
                ends
            }
        };
        Some(Self { ends: Some(ends), held: 0 })
    }

    /// Whether nothing is in the pipe.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves what has come into the pipe, which must be empty: then only the socket can block.
    /// Zero: the peer has ended its side.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        reader: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(reader.poll_read_ready(cx))?;
            match reader.try_io(Interest::READABLE, || pass(reader, &ends.write, SIZE)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    self.held += count;
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }

    /// Moves some of what is in the pipe on; how much.
    pub(crate) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        writer: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(writer.poll_write_ready(cx))?;
            match writer.try_io(Interest::WRITABLE, || pass(&ends.read, writer, self.held)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    self.held -= count;
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        // While the thread ends the pool may be gone; then the pipe just goes too.
        let kept = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            let keep = self.held == 0 && pool.len() < KEPT;
            if keep {
                pool.push(ends);
            }
            keep
        });
        if kept == Ok(false) {
            LIVE.set(LIVE.get() - 1);
        }
    }
}

fn open() -> io::Result<Ends> {
    let (read, write) = io::pipe()?;
    // Where the size is refused, the usual one is good too.
    let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(SIZE as i32));
    Ok(Ends { read, write })
}

fn pass(from: &impl AsFd, to: &impl AsFd, count: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    Ok(splice(from, None, to, None, count, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_reused_and_bounded() {
        let mut lent: Vec<Pipe> = std::iter::from_fn(Pipe::take).collect();
        assert_eq!(lent.len(), MOST);
        assert!(lent.iter().all(Pipe::is_empty));
        lent.pop();
        assert!(Pipe::take().is_some());
        lent.clear();
        assert_eq!(POOL.with(|pool| pool.borrow().len()), KEPT);
        assert_eq!(LIVE.get(), KEPT);
    }

    #[test]
    fn pipe_that_holds_bytes_is_not_kept() {
        let mut pipe = Pipe::take().unwrap();
        pipe.held = 1;
        drop(pipe);
        assert_eq!(POOL.with(|pool| pool.borrow().len()), 0);
        assert_eq!(LIVE.get(), 0);
    }
}
