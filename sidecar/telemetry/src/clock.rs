//! The time as the path of traffic sees it: read once for each turn of a connection's task.
//!
//! A request asks for the time many times while its connection has its turn, and a turn takes
//! microseconds. Whoever polls a connection begins a [`Turn`]; within it [`now`] reads the clock
//! once. Outside of a turn it reads the clock each time.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// How long the wall clock is reckoned from the monotonic one before it is read again.
const RECKONED: Duration = Duration::from_millis(500);

#[derive(Clone, Copy)]
enum Known {
    /// There is no turn.
    No,
    /// Nobody has asked yet in this turn.
    NotYet,
    At(Instant),
}

thread_local! {
    static KNOWN: Cell<Known> = const { Cell::new(Known::No) };
    /// A moment of both clocks.
    static ANCHOR: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
}

/// While it lives, the thread's time stands still; it is not to be kept across a wait.
#[derive(Debug)]
pub struct Turn {
    /// Belongs to its thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Turn {
    /// Begins a turn.
    #[inline]
    #[must_use]
    pub fn begin() -> Self {
        KNOWN.set(Known::NotYet);
        Self { _thread: std::marker::PhantomData }
    }
}

impl Drop for Turn {
    #[inline]
    fn drop(&mut self) {
        KNOWN.set(Known::No);
    }
}

/// The moment; within a turn, when it was asked for first.
#[inline]
#[must_use]
pub fn now() -> Instant {
    match KNOWN.get() {
        Known::At(at) => at,
        Known::No => Instant::now(),
        Known::NotYet => {
            let at = Instant::now();
            KNOWN.set(Known::At(at));
            at
        }
    }
}

/// The wall clock at this moment, at most half a second behind when it is set.
#[must_use]
pub fn wall(now: Instant) -> SystemTime {
    if let Some((at, wall)) = ANCHOR.get() {
        let since = now.saturating_duration_since(at);
        if since < RECKONED && now >= at {
            return wall + since;
        }
    }
    let wall = SystemTime::now();
    ANCHOR.set(Some((now, wall)));
    wall
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_within_a_turn_only() {
        let turn = Turn::begin();
        let first = now();
        while Instant::now() == first {}
        assert_eq!(now(), first);
        drop(turn);
        assert!(now() > first);
        let _turn = Turn::begin();
        assert!(now() > first);
    }

    #[test]
    fn the_wall_clock_follows_the_moment_that_is_asked_for() {
        let at = Instant::now();
        let first = wall(at);
        assert_eq!(wall(at + Duration::from_millis(7)), first + Duration::from_millis(7));
        let real = SystemTime::now().duration_since(wall(Instant::now())).unwrap_or_default();
        assert!(real < RECKONED, "it is {real:?} behind");
    }
}
