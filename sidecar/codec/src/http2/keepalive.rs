//! Pings that tell whether the peer is still there (`connection_keepalive`).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

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
    link: PingPong,
    waiting: bool,
}

impl<A: Alarm> KeepAlive<A> {
    pub(super) fn new(mut pings: Pings<A>, link: PingPong) -> Self {
        pings.alarm.set(Instant::now() + pings.interval);
        Self { pings, link, waiting: false }
    }

    /// Ready when the peer has not answered in time.
    pub(super) fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // An error here is one of the connection, which says so itself.
            if self.waiting && matches!(self.link.poll_pong(cx), Poll::Ready(Ok(_))) {
                self.waiting = false;
                self.pings.alarm.set(Instant::now() + self.pings.interval);
            }
            if self.pings.alarm.poll_due(cx).is_pending() {
                return Poll::Pending;
            }
            if self.waiting {
                return Poll::Ready(());
            }
            self.waiting = self.link.send_ping(Ping::opaque()).is_ok();
            let patience = if self.waiting { self.pings.timeout } else { self.pings.interval };
            self.pings.alarm.set(Instant::now() + patience);
        }
    }
}
