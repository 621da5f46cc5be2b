//! Carrying bytes between two streams.
//!
//! A buffer is held only while it has bytes in it, so an idle connection holds
//! none; it grows while one side sends faster than it is read in small pieces.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::buffers::{Buffer, SizeClass};
use crate::timer::{Deadline, Timers};

/// What was carried so far; readable also when the relay is given up.
#[derive(Debug, Default)]
pub struct RelayCounters {
    /// Bytes from the first stream to the second.
    pub forward: Cell<u64>,
    /// Bytes from the second stream to the first.
    pub backward: Cell<u64>,
}

/// Why a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both sides have closed, the first stream before the second.
    FirstClosed,
    /// Both sides have closed, the second stream before the first.
    SecondClosed,
    /// No byte came for as long as allowed.
    Idle,
    /// The first stream failed.
    FirstFailed(io::Error),
    /// The second stream failed.
    SecondFailed(io::Error),
}

/// Carries bytes both ways until both sides have closed; the end of one is passed on to the other.
pub async fn relay<A, B>(
    first: &mut A,
    second: &mut B,
    idle: Option<Duration>,
    timers: &Timers,
    counters: &RelayCounters,
) -> RelayEnd
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut forward = Direction::default();
    let mut backward = Direction::default();
    let mut idle = IdleTimer { after: idle, deadline: timers.after(idle) };
    let mut first_to_close = None;
    poll_fn(|cx| {
        let before = counters.forward.get() + counters.backward.get();
        let there = forward.poll(cx, first, second, &counters.forward);
        if matches!(there, Poll::Ready(Ok(()))) {
            first_to_close.get_or_insert(RelayEnd::FirstClosed);
        }
        let back = backward.poll(cx, second, first, &counters.backward);
        if matches!(back, Poll::Ready(Ok(()))) {
            first_to_close.get_or_insert(RelayEnd::SecondClosed);
        }
        let ended = match (there, back) {
            (Poll::Ready(Err(Failure::Read(error))), _)
            | (_, Poll::Ready(Err(Failure::Write(error)))) => Some(RelayEnd::FirstFailed(error)),
            (_, Poll::Ready(Err(Failure::Read(error))))
            | (Poll::Ready(Err(Failure::Write(error))), _) => Some(RelayEnd::SecondFailed(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => first_to_close.take(),
            _ => None,
        };
        if let Some(ended) = ended {
            return Poll::Ready(ended);
        }
        let moved = before != counters.forward.get() + counters.backward.get();
        idle.poll(cx, moved).map(|()| RelayEnd::Idle)
    })
    .await
}

struct IdleTimer {
    after: Option<Duration>,
    deadline: Deadline,
}

impl IdleTimer {
    fn poll(&mut self, cx: &mut Context<'_>, moved: bool) -> Poll<()> {
        let Some(after) = self.after else { return Poll::Pending };
        if moved {
            self.deadline.set(Instant::now().checked_add(after));
        }
        self.deadline.poll_due(cx)
    }
}

enum Failure {
    Read(io::Error),
    Write(io::Error),
}

#[derive(Default)]
enum Step {
    #[default]
    Reading,
    Writing {
        buffer: Buffer,
        at: usize,
        end: usize,
    },
    Flushing,
    Closing,
    Closed,
}

/// One direction of a relay.
#[derive(Default)]
struct Direction {
    step: Step,
    class: SizeClass,
    unflushed: bool,
}

impl Direction {
    /// Ready when the reader's end was passed on.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        carried: &Cell<u64>,
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            self.step = match std::mem::take(&mut self.step) {
                Step::Reading => match self.read(cx, reader)? {
                    Poll::Ready(step) => step,
                    Poll::Pending if self.unflushed => Step::Flushing,
                    Poll::Pending => return Poll::Pending,
                },
                Step::Writing { buffer, at, end } => {
                    match Pin::new(&mut *writer).poll_write(cx, &buffer[at..end]) {
                        Poll::Ready(written) => {
                            let count = wrote(written)?;
                            carried.set(carried.get() + count as u64);
                            self.unflushed = true;
                            let at = at + count;
                            if at == end {
                                Step::Reading
                            } else {
                                Step::Writing { buffer, at, end }
                            }
                        }
                        Poll::Pending => {
                            self.step = Step::Writing { buffer, at, end };
                            return Poll::Pending;
                        }
                    }
                }
                Step::Flushing => {
                    ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(Failure::Write)?;
                    // The reader's waker is set: reading was tried before flushing.
                    self.unflushed = false;
                    return Poll::Pending;
                }
                Step::Closing => match close(cx, writer)? {
                    Poll::Ready(()) => Step::Closed,
                    Poll::Pending => {
                        self.step = Step::Closing;
                        return Poll::Pending;
                    }
                },
                Step::Closed => {
                    self.step = Step::Closed;
                    return Poll::Ready(Ok(()));
                }
            };
        }
    }

    fn read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> Result<Poll<Step>, Failure> {
        let mut buffer = Buffer::take(self.class);
        let mut read = ReadBuf::new(&mut buffer);
        match Pin::new(reader).poll_read(cx, &mut read) {
            Poll::Pending => Ok(Poll::Pending),
            // A TLS peer that leaves without close_notify has left all the same.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Poll::Ready(Step::Closing))
            }
            Poll::Ready(Err(error)) => Err(Failure::Read(error)),
            Poll::Ready(Ok(())) => {
                let end = read.filled().len();
                if end == 0 {
                    return Ok(Poll::Ready(Step::Closing));
                }
                if end == buffer.len() {
                    self.class = self.class.grow();
                } else if end < buffer.len() / 4 {
                    self.class = self.class.shrink();
                }
                Ok(Poll::Ready(Step::Writing { buffer, at: 0, end }))
            }
        }
    }
}

/// Ends the writing side.
fn close<W: AsyncWrite + Unpin>(cx: &mut Context<'_>, writer: &mut W) -> Result<Poll<()>, Failure> {
    match Pin::new(writer).poll_shutdown(cx) {
        Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
        // The other side is gone already; what it sent is still read.
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::NotConnected => {
            Ok(Poll::Ready(()))
        }
        Poll::Ready(Err(error)) => Err(Failure::Write(error)),
        Poll::Pending => Ok(Poll::Pending),
    }
}

/// How much was written; nothing at all is a failure.
fn wrote(written: io::Result<usize>) -> Result<usize, Failure> {
    match written {
        Ok(0) => Err(Failure::Write(io::ErrorKind::WriteZero.into())),
        Ok(count) => Ok(count),
        Err(error) => Err(Failure::Write(error)),
    }
}

#[cfg(test)]
mod tests;
