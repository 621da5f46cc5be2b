//! Coarse deadlines: one wheel for each worker.
//!
//! Almost every deadline on the request path is cancelled long before it is
//! due. A deadline here is two links in a list: arming and disarming it costs a
//! few nanoseconds, and the runtime's own timer is touched only when the wheel
//! has something due. Deadlines are never early and at most one [`TICK`] late.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use weft_telemetry::clock;

/// How late a deadline may be.
pub const TICK: Duration = Duration::from_millis(4);

const SLOTS: usize = 2048;
const WORDS: usize = SLOTS / 64;
const NIL: u32 = u32::MAX;

/// The deadlines of one worker; clones are the same wheel.
#[derive(Clone)]
pub struct Timers(Rc<RefCell<Wheel>>);

impl Timers {
    /// A wheel whose driver runs on the current `LocalRuntime` or `LocalSet`.
    #[must_use]
    pub fn new() -> Self {
        let wheel = Rc::new(RefCell::new(Wheel::new(Instant::now())));
        tokio::task::spawn_local(Driver {
            wheel: Rc::downgrade(&wheel),
            sleep: Box::pin(sleep_until(Instant::now())),
        });
        Self(wheel)
    }

    /// A deadline that is not set yet.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        Deadline { timers: self.clone(), entry: NIL, at: None }
    }

    /// A deadline `after` this long, or one that is never due.
    #[must_use]
    pub fn after(&self, after: Option<Duration>) -> Deadline {
        let mut deadline = self.deadline();
        deadline.set(after.and_then(|after| Instant::now().checked_add(after)));
        deadline
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers").finish_non_exhaustive()
    }
}

/// A moment that can be waited for, moved and given up. Nothing is armed until it is polled.
#[derive(Debug)]
pub struct Deadline {
    timers: Timers,
    entry: u32,
    at: Option<Instant>,
}

impl Deadline {
    /// Moves the deadline; `None`: it is never due.
    ///
    /// Moving it to a later moment leaves the armed entry alone; it is armed anew when it fires.
    pub fn set(&mut self, at: Option<Instant>) {
        let later = matches!((self.at, at), (Some(old), Some(new)) if new >= old);
        if self.entry != NIL && !later {
            self.disarm();
        }
        self.at = at;
    }

    /// The moment, where one is set.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Whether the moment has come; else the task is woken when it does.
    pub fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let mut wheel = self.timers.0.borrow_mut();
        if self.entry != NIL {
            if wheel.is_pending(self.entry, cx.waker()) {
                return Poll::Pending;
            }
            wheel.free(self.entry);
            self.entry = NIL;
        }
        if clock::now() >= at {
            return Poll::Ready(());
        }
        self.entry = wheel.insert(at, cx.waker());
        Poll::Pending
    }

    fn disarm(&mut self) {
        if self.entry != NIL {
            let mut wheel = self.timers.0.borrow_mut();
            wheel.unlink(self.entry);
            wheel.free(self.entry);
            self.entry = NIL;
        }
    }
}

/// Waits for the moment.
impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_due(cx)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.disarm();
    }
}

struct Entry {
    tick: u64,
    waker: Option<Waker>,
    /// Set while the entry is in a slot's list.
    linked: bool,
    next: u32,
    previous: u32,
}

struct Wheel {
    start: Instant,
    /// The first tick that was not looked at yet.
    current: u64,
    heads: Box<[u32]>,
    occupied: [u64; WORDS],
    entries: Vec<Entry>,
    free: u32,
    /// The tick that the driver sleeps until; `None`: it waits for a first entry.
    driver_target: Option<u64>,
    driver: Option<Waker>,
}

impl Wheel {
    fn new(start: Instant) -> Self {
        Self {
            start,
            current: 0,
            heads: vec![NIL; SLOTS].into_boxed_slice(),
            occupied: [0; WORDS],
            entries: Vec::new(),
            free: NIL,
            driver_target: None,
            driver: None,
        }
    }

    fn tick_after(&self, at: Instant) -> u64 {
        const A_SECOND: u64 = 1_000_000_000 / TICK.as_nanos() as u64;
        let since = at.saturating_duration_since(self.start);
        let rest = since.subsec_nanos().div_ceil(TICK.subsec_nanos());
        since.as_secs().saturating_mul(A_SECOND).saturating_add(u64::from(rest))
    }

    fn insert(&mut self, at: Instant, waker: &Waker) -> u32 {
        let tick = self.tick_after(at).max(self.current);
        let waker = Some(waker.clone());
        let entry = Entry { tick, waker, linked: true, next: NIL, previous: NIL };
        let index = if self.free == NIL {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("invariant: fewer than 2^32 deadlines")
        } else {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            self.entries[index as usize] = entry;
            index
        };
        self.link(index);
        if self.driver_target.is_none_or(|target| tick < target)
            && let Some(driver) = self.driver.take()
        {
            driver.wake();
        }
        index
    }

    fn link(&mut self, index: u32) {
        let slot = (self.entries[index as usize].tick % SLOTS as u64) as usize;
        let head = self.heads[slot];
        self.entries[index as usize].next = head;
        if head != NIL {
            self.entries[head as usize].previous = index;
        }
        self.heads[slot] = index;
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    fn unlink(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        if !entry.linked {
            return;
        }
        entry.linked = false;
        let (next, previous) = (entry.next, entry.previous);
        let slot = (entry.tick % SLOTS as u64) as usize;
        if next != NIL {
            self.entries[next as usize].previous = previous;
        }
        if previous != NIL {
            self.entries[previous as usize].next = next;
        } else {
            self.heads[slot] = next;
            if next == NIL {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        }
    }

    fn free(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.waker = None;
        entry.next = self.free;
        self.free = index;
    }

    /// Whether the entry has not fired yet; remembers who waits.
    fn is_pending(&mut self, index: u32, waker: &Waker) -> bool {
        let entry = &mut self.entries[index as usize];
        if entry.linked && !entry.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            entry.waker = Some(waker.clone());
        }
        entry.linked
    }

    /// Takes every entry that is due out of its list; calls `wake` with its waker.
    fn fire(&mut self, now: Instant, due: &mut Vec<Waker>) {
        let nanos = now.saturating_duration_since(self.start).as_nanos();
        let now = u64::try_from(nanos / TICK.as_nanos()).unwrap_or(u64::MAX);
        if now < self.current {
            return;
        }
        let rounds = (now - self.current + 1).min(SLOTS as u64);
        for tick in self.current..self.current + rounds {
            let mut index = self.heads[(tick % SLOTS as u64) as usize];
            while index != NIL {
                let (next, is_due) = {
                    let entry = &self.entries[index as usize];
                    (entry.next, entry.tick <= now)
                };
                if is_due {
                    self.unlink(index);
                    due.extend(self.entries[index as usize].waker.take());
                }
                index = next;
            }
        }
        self.current = now + 1;
    }

    /// The next tick whose slot holds something.
    fn next_tick(&self) -> Option<u64> {
        let first = (self.current % SLOTS as u64) as usize;
        let mut distance = 0;
        while distance < SLOTS {
            let slot = (first + distance) % SLOTS;
            let rest = self.occupied[slot / 64] >> (slot % 64);
            if rest != 0 {
                let found = distance + rest.trailing_zeros() as usize;
                return (found < SLOTS).then(|| self.current + found as u64);
            }
            distance += 64 - slot % 64;
        }
        None
    }
}

impl Drop for Wheel {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

struct Driver {
    wheel: Weak<RefCell<Wheel>>,
    sleep: Pin<Box<Sleep>>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut due = Vec::new();
        loop {
            let Some(wheel) = self.wheel.upgrade() else { return Poll::Ready(()) };
            let mut wheel = wheel.borrow_mut();
            wheel.fire(Instant::now(), &mut due);
            wheel.driver_target = wheel.next_tick();
            wheel.driver = Some(cx.waker().clone());
            let target = wheel.driver_target.map(|tick| {
                let ticks = u32::try_from(tick.saturating_sub(wheel.current)).unwrap_or(u32::MAX);
                let current = TICK.as_nanos() * u128::from(wheel.current);
                let current = Duration::from_nanos(u64::try_from(current).unwrap_or(u64::MAX));
                wheel.start + current + TICK * ticks
            });
            drop(wheel);
            due.drain(..).for_each(Waker::wake);
            let Some(target) = target else { return Poll::Pending };
            self.sleep.as_mut().reset(target);
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests;
