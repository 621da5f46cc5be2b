//! The one timer of a stream, for all of its time limits.

use std::num::NonZeroU32;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use weft_net::{Deadline, Timers};
use weft_telemetry::{HttpStats, clock};

/// Which limit was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// `RouteAction.timeout`
    Response,
    /// `RetryPolicy.per_try_timeout`
    Try,
    /// `RetryPolicy.per_try_idle_timeout`
    TryIdle,
    /// `stream_idle_timeout`, `RouteAction.idle_timeout`
    Idle,
    /// `max_stream_duration`
    Duration,
    /// `request_timeout`: the request did not arrive in time.
    Request,
}

impl Expired {
    /// Counts it where it is one of the client's limits.
    pub(crate) fn count(self, stats: &HttpStats) {
        match self {
            Self::Idle => stats.rq_idle_timeout.inc(),
            Self::Duration => stats.rq_max_duration.inc(),
            Self::Request => stats.rq_timeout.inc(),
            Self::Response | Self::Try | Self::TryIdle => {}
        }
    }
}

/// The time limits of one stream. Nothing is armed before it is polled.
#[derive(Debug)]
pub(crate) struct StreamTimer {
    deadline: Deadline,
    response: Option<Instant>,
    one_try: Option<Instant>,
    duration: Option<Instant>,
    request: Option<Instant>,
    idle: Option<Duration>,
    /// How long the upstream may be silent in one try, milliseconds.
    try_idle: Option<NonZeroU32>,
    /// Whether such a try is on its way.
    trying: bool,
    last_active: Instant,
    active: bool,
}

impl StreamTimer {
    /// A timer without limits for a stream that begins now.
    pub(crate) fn new(timers: &Timers, now: Instant) -> Self {
        Self {
            deadline: timers.deadline(),
            response: None,
            one_try: None,
            duration: None,
            request: None,
            idle: None,
            try_idle: None,
            trying: false,
            last_active: now,
            active: false,
        }
    }

    /// Limits how long the stream may be silent.
    pub(crate) fn limit_idle(&mut self, idle: Option<Duration>) {
        self.idle = idle.filter(|idle| !idle.is_zero());
    }

    /// How long the stream may be silent.
    pub(crate) fn idle(&self) -> Option<Duration> {
        self.idle
    }

    /// Limits how long the request may take to arrive.
    pub(crate) fn limit_request(&mut self, at: Option<Instant>) {
        self.request = at;
    }

    /// Limits the whole stream.
    pub(crate) fn limit_duration(&mut self, at: Option<Instant>) {
        self.duration = at;
    }

    /// Limits the response, from now on.
    pub(crate) fn limit_response(&mut self, at: Option<Instant>) {
        self.response = at;
    }

    /// Limits one try.
    pub(crate) fn limit_try(&mut self, at: Option<Instant>) {
        self.one_try = at;
    }

    /// Limits how long a try may be silent, once it has begun.
    pub(crate) fn limit_try_idle(&mut self, idle: Option<Duration>) {
        let millis = idle.and_then(|idle| u32::try_from(idle.as_millis()).ok());
        self.try_idle = millis.and_then(NonZeroU32::new);
    }

    /// A try whose request is whole begins, or is over.
    pub(crate) fn set_trying(&mut self, trying: bool) {
        if self.try_idle.is_some() {
            self.trying = trying;
            self.last_active = clock::now();
        }
    }

    /// Something was sent or received.
    pub(crate) fn touch(&mut self) {
        self.active = true;
    }

    /// Ready when a limit is passed. To be polled when nothing else can go on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        if std::mem::take(&mut self.active) && (self.idle.is_some() || self.trying) {
            self.last_active = clock::now();
        }
        let after = |idle: Option<Duration>| self.last_active.checked_add(idle?);
        let silence = self.try_idle.filter(|_| self.trying);
        let silence = silence.map(|millis| Duration::from_millis(millis.get().into()));
        let (idle, try_idle) = (after(self.idle), after(silence));
        let limits = [self.response, self.one_try, try_idle, idle, self.duration, self.request];
        let Some(first) = limits.into_iter().flatten().min() else { return Poll::Pending };
        self.deadline.set(Some(first));
        if self.deadline.poll_due(cx).is_pending() {
            return Poll::Pending;
        }
        self.deadline.set(None);
        let is_first = |limit: Option<Instant>| limit == Some(first);
        Poll::Ready(if is_first(self.response) {
            Expired::Response
        } else if is_first(self.one_try) {
            Expired::Try
        } else if is_first(try_idle) {
            Expired::TryIdle
        } else if is_first(self.duration) {
            Expired::Duration
        } else if is_first(self.request) {
            Expired::Request
        } else {
            Expired::Idle
        })
    }
}
