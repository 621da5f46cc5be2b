//! Pings that tell whether the peer is still there (`connection_keepalive`).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::link::Link;

/// A deadline that can be moved.
pub trait Alarm {
    /// Moves it.
    fn set(&mut self, at: Instant);

    /// Ready when it has come; else the task is woken then.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// One of the runtime's own.
impl Alarm for Pin<Box<Sleep>> {
    fn set(&mut self, at: Instant) {
        self.as_mut().reset(at);
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.as_mut().poll(cx)
    }
}

/// When to ping, and how long the answer may take.
#[derive(Debug)]
pub struct Pings<A> {
    /// Rings when there is something to do.
    pub alarm: A,
    /// Between an answer and the next ping.
    pub interval: Duration,
    /// Until the connection is given up.
    pub timeout: Duration,
}

/// Pings one connection.
#[derive(Debug)]
pub(super) struct KeepAlive<A> {
    pings: Pings<A>,
    waiting: bool,
}

impl<A: Alarm> KeepAlive<A> {
    pub(super) fn new(mut pings: Pings<A>) -> Self {
        pings.alarm.set(Instant::now() + pings.interval);
        Self { pings, waiting: false }
    }

    /// Ready when the peer has not answered in time.
    pub(super) fn poll_dead<T>(&mut self, link: &Link<T>, cx: &mut Context<'_>) -> Poll<()>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            if self.waiting && std::mem::take(&mut link.state.borrow_mut().pong) {
                self.waiting = false;
                self.pings.alarm.set(Instant::now() + self.pings.interval);
            }
            if self.pings.alarm.poll_due(cx).is_pending() {
                return Poll::Pending;
            }
            if self.waiting {
                return Poll::Ready(());
            }
            link.ping();
            self.waiting = true;
            self.pings.alarm.set(Instant::now() + self.pings.timeout);
        }
    }
}
