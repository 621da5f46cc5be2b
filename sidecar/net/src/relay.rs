//! Carrying bytes between two streams.
//!
//! A buffer is held only while it has bytes in it, so an idle connection holds
//! none; it grows while one side sends faster than it is read in small pieces.
//! What keeps coming in large pieces from socket to socket is spliced.

mod direction;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::timer::{Deadline, Timers};

use direction::{Direction, Failure};

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

/// One side of a relay.
pub struct Side<'a, S> {
    stream: &'a mut S,
    socket: fn(&S) -> Option<&TcpStream>,
    passed: fn(&S, Passed),
}

/// Bytes that went past a stream, over the socket below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// So many were received.
    Received(usize),
    /// So many were sent.
    Sent(usize),
}

impl<'a, S> Side<'a, S> {
    /// A stream of any kind.
    pub fn new(stream: &'a mut S) -> Self {
        Self { stream, socket: |_| None, passed: |_, _| {} }
    }

    /// A stream that may be no more than a socket. Then bytes may go past it, and `passed` hears
    /// how many.
    pub fn over_socket(
        stream: &'a mut S,
        socket: fn(&S) -> Option<&TcpStream>,
        passed: fn(&S, Passed),
    ) -> Self {
        Self { stream, socket, passed }
    }

    fn socket(&self) -> Option<&TcpStream> {
        (self.socket)(self.stream)
    }

    fn passed(&self, bytes: Passed) {
        (self.passed)(self.stream, bytes);
    }
}

/// Carries bytes both ways until both sides have closed; the end of one is passed on to the other.
pub async fn relay<A, B>(
    mut first: Side<'_, A>,
    mut second: Side<'_, B>,
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
        let there = forward.poll(cx, &mut first, &mut second, &counters.forward);
        if matches!(there, Poll::Ready(Ok(()))) {
            first_to_close.get_or_insert(RelayEnd::FirstClosed);
        }
        let back = backward.poll(cx, &mut second, &mut first, &counters.backward);
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

#[cfg(test)]
mod tests;
