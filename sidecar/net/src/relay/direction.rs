//! One direction of a relay.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Passed, Side};
use crate::buffers::{Buffer, SizeClass};
use crate::splice::Pipe;

/// A read of so many bytes is a large one.
const LARGE: usize = 64 << 10;
/// So many large reads in a row, and the next bytes are spliced.
const SPLICE_AFTER: u8 = 2;
/// So many reads below a quarter of a large one in a row, and the next bytes are copied.
const COPY_AFTER: u8 = 4;

pub(super) enum Failure {
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
    /// Bytes are on their way through a pipe.
    Draining(Pipe),
    Flushing,
    Closing,
    Closed,
}

/// One direction of a relay.
#[derive(Default)]
pub(super) struct Direction {
    step: Step,
    class: SizeClass,
    unflushed: bool,
    /// Whether bytes are spliced where they can be.
    splicing: bool,
    /// Reads in a row that spoke for the other way.
    contrary: u8,
}

impl Direction {
    /// Ready when the reader's end was passed on.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Side<'_, R>,
        writer: &mut Side<'_, W>,
        carried: &Cell<u64>,
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            self.step = match std::mem::take(&mut self.step) {
                Step::Reading => match self.receive(cx, reader, writer)? {
                    Poll::Ready(step) => step,
                    Poll::Pending if self.unflushed => Step::Flushing,
                    Poll::Pending => return Poll::Pending,
                },
                Step::Writing { buffer, at, end } => {
                    match Pin::new(&mut *writer.stream).poll_write(cx, &buffer[at..end]) {
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
                Step::Draining(mut pipe) => {
                    if drain(cx, &mut pipe, writer, carried)?.is_pending() {
                        self.step = Step::Draining(pipe);
                        return Poll::Pending;
                    }
                    Step::Reading
                }
                Step::Flushing => {
                    ready!(Pin::new(&mut *writer.stream).poll_flush(cx)).map_err(Failure::Write)?;
                    // The reader's waker is set: reading was tried before flushing.
                    self.unflushed = false;
                    return Poll::Pending;
                }
                Step::Closing => match close(cx, writer.stream)? {
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

    /// Takes in what has come, by splicing or by copying.
    fn receive<R: AsyncRead + Unpin, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Side<'_, R>,
        writer: &Side<'_, W>,
    ) -> Result<Poll<Step>, Failure> {
        let spliceable = writer.socket().is_some();
        if self.splicing
            && spliceable
            && let Some(socket) = reader.socket()
            && let Some(mut pipe) = Pipe::take()
        {
            let Poll::Ready(count) = pipe.poll_fill(cx, socket) else { return Ok(Poll::Pending) };
            let count = count.map_err(Failure::Read)?;
            if count == 0 {
                return Ok(Poll::Ready(Step::Closing));
            }
            reader.passed(Passed::Received(count));
            self.judge(count < LARGE / 4, COPY_AFTER);
            return Ok(Poll::Ready(Step::Draining(pipe)));
        }
        let read = self.read(cx, reader.stream)?;
        if let Poll::Ready(Step::Writing { end, .. }) = &read
            && spliceable
            && reader.socket().is_some()
        {
            // Where every pipe is lent, this counts while splicing too, and changes nothing.
            self.judge(!self.splicing && *end >= LARGE, SPLICE_AFTER);
        }
        Ok(read)
    }

    /// Changes the way after so many reads in a row that spoke for the other.
    fn judge(&mut self, contrary: bool, limit: u8) {
        self.contrary = if contrary { self.contrary + 1 } else { 0 };
        if self.contrary >= limit {
            self.splicing = !self.splicing;
            self.contrary = 0;
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

/// Moves all that is in a pipe on.
fn drain<W>(
    cx: &mut Context<'_>,
    pipe: &mut Pipe,
    writer: &Side<'_, W>,
    carried: &Cell<u64>,
) -> Result<Poll<()>, Failure> {
    let Some(socket) = writer.socket() else { return Err(Failure::Write(gone())) };
    while !pipe.is_empty() {
        let Poll::Ready(written) = pipe.poll_drain(cx, socket) else { return Ok(Poll::Pending) };
        let count = wrote(written)?;
        carried.set(carried.get() + count as u64);
        writer.passed(Passed::Sent(count));
    }
    Ok(Poll::Ready(()))
}

/// A stream does not stop being a socket; an error if it did.
fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
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
