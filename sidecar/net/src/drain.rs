//! Ending connections without breaking what they carry.
//!
//! A [`Drain`] belongs to a listener or to the whole worker; a connection
//! watches it. First connections are asked to end with their next response,
//! then idle ones are closed, then all of them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How far draining has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not draining.
    #[default]
    Serving,
    /// Connections announce their end: `connection: close`, GOAWAY.
    Announcing,
    /// Idle connections are closed; busy ones when they become idle.
    Closing,
    /// All connections are closed.
    Forced,
}

/// How long the phases last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// From the beginning until idle connections are closed.
    pub announce: Duration,
    /// From then until busy connections are closed.
    pub close: Duration,
}

#[derive(Default)]
struct State {
    phase: Cell<Phase>,
    connections: Cell<usize>,
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    owner: RefCell<Option<Waker>>,
    parent: Option<Drain>,
    /// Those below; woken when this one changes.
    children: RefCell<Vec<std::rc::Weak<State>>>,
}

/// The trigger; clones are the same one.
#[derive(Clone, Default)]
pub struct Drain(Rc<State>);

impl Drain {
    /// A drain that nothing stands above.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A drain below this one: it is in the further phase of the two.
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Rc::new(State { parent: Some(self.clone()), ..State::default() });
        let mut children = self.0.children.borrow_mut();
        children.retain(|known| known.strong_count() > 0);
        children.push(Rc::downgrade(&child));
        Self(child)
    }

    /// The phase at the moment.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let above = self.0.parent.as_ref().map_or(Phase::Serving, Self::phase);
        above.max(self.0.phase.get())
    }

    /// Goes on to a phase; never back.
    pub fn advance(&self, phase: Phase) {
        if phase > self.0.phase.get() {
            self.0.phase.set(phase);
            self.wake();
        }
    }

    /// Goes through all phases; ends early when no connection is left.
    pub async fn run(&self, plan: DrainPlan) {
        self.advance(Phase::Announcing);
        if tokio::time::timeout(plan.announce, self.empty()).await.is_ok() {
            return;
        }
        self.advance(Phase::Closing);
        if tokio::time::timeout(plan.close, self.empty()).await.is_ok() {
            return;
        }
        self.advance(Phase::Forced);
        self.empty().await;
    }

    /// Connections that watch this drain or one below it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.connections.get()
    }

    /// Waits until no connection is left.
    pub async fn empty(&self) {
        poll_fn(|cx| {
            if self.0.connections.get() == 0 {
                return Poll::Ready(());
            }
            *self.0.owner.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Registers a connection.
    #[must_use]
    pub fn watch(&self) -> DrainWatch {
        self.count(true);
        DrainWatch { drain: self.clone(), slot: None, seen: Phase::Serving }
    }

    fn count(&self, add: bool) {
        let mut at = Some(self);
        while let Some(drain) = at {
            let count = drain.0.connections.get();
            drain.0.connections.set(if add { count + 1 } else { count.saturating_sub(1) });
            if drain.0.connections.get() == 0
                && let Some(owner) = drain.0.owner.take()
            {
                owner.wake();
            }
            at = drain.0.parent.as_ref();
        }
    }

    fn wake(&self) {
        for waker in self.0.wakers.borrow().iter().flatten() {
            waker.wake_by_ref();
        }
        let children: Vec<_> = self.0.children.borrow().clone();
        for child in children.iter().filter_map(std::rc::Weak::upgrade) {
            Self(child).wake();
        }
    }
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain")
            .field("phase", &self.phase())
            .field("connections", &self.connections())
            .finish()
    }
}

/// A connection's view of its drain; the connection counts as open until this is dropped.
#[derive(Debug)]
pub struct DrainWatch {
    drain: Drain,
    slot: Option<usize>,
    seen: Phase,
}

impl DrainWatch {
    /// What is watched.
    #[must_use]
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// The phase at the moment.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.drain.phase()
    }

    /// Ready with each new phase, once.
    pub fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<Phase> {
        let phase = self.drain.phase();
        if phase > self.seen {
            self.seen = phase;
            return Poll::Ready(phase);
        }
        let mut wakers = self.drain.0.wakers.borrow_mut();
        let slot = *self.slot.get_or_insert_with(|| {
            self.drain.0.free.borrow_mut().pop().unwrap_or_else(|| {
                wakers.push(None);
                wakers.len() - 1
            })
        });
        if !wakers[slot].as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            wakers[slot] = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits for a phase.
    pub async fn reached(&mut self, wanted: Phase) {
        poll_fn(|cx| {
            loop {
                if self.phase() >= wanted {
                    return Poll::Ready(());
                }
                if self.poll_phase(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }
}

impl Drop for DrainWatch {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.drain.0.wakers.borrow_mut()[slot] = None;
            self.drain.0.free.borrow_mut().push(slot);
        }
        self.drain.count(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::local;

    #[test]
    fn a_listener_drains_with_its_worker() {
        local(async {
            let worker = Drain::new();
            let listener = worker.child();
            let mut watch = listener.watch();
            assert_eq!((worker.connections(), listener.connections()), (1, 1));
            let waiting = tokio::task::spawn_local(async move {
                watch.reached(Phase::Announcing).await;
            });
            tokio::task::yield_now().await;
            worker.advance(Phase::Announcing);
            waiting.await.unwrap();
            worker.empty().await;
            assert_eq!(listener.connections(), 0);
        });
    }

    #[test]
    fn a_drain_forces_what_does_not_end() {
        local(async {
            tokio::time::pause();
            let drain = Drain::new();
            let mut watch = drain.watch();
            let busy = tokio::task::spawn_local(async move {
                watch.reached(Phase::Forced).await;
            });
            let start = tokio::time::Instant::now();
            let plan =
                DrainPlan { announce: Duration::from_secs(2), close: Duration::from_secs(3) };
            drain.run(plan).await;
            assert!(start.elapsed() >= Duration::from_secs(5));
            busy.await.unwrap();
        });
    }

    #[test]
    fn a_drain_without_connections_ends_at_once() {
        local(async {
            let plan =
                DrainPlan { announce: Duration::from_secs(600), close: Duration::from_secs(600) };
            Drain::new().run(plan).await;
        });
    }
}
