//! Connections of one kind to one endpoint: idle ones, shared ones, and those who wait for one.
//!
//! A request takes an idle HTTP/1 connection or room on an HTTP/2 connection if there is any.
//! Otherwise it waits, and as many attempts to connect are under way as those who wait need; it
//! gets whichever connection is ready first, new or given back.

mod alpn;
mod driver;
mod lease;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;
use weft_model::HostCounters;

use crate::UpstreamError;
use crate::client::Client;
use crate::cluster::ClusterCx;
use crate::dial::Target;
use crate::error::Limit;
use crate::limits::{Level, add, sub};

pub(crate) use lease::{ConnectionFacts, Lease, Reply, Sent};
use lease::{Http1Connection, Http2Connection};

/// Which protocol a pool's connections speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http1,
    Http2,
    /// What ALPN decides.
    Auto,
}

/// What distinguishes the pools of a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolKey<'a> {
    pub(crate) kind: Kind,
    pub(crate) high: bool,
    pub(crate) sni: Option<&'a str>,
    pub(crate) alpn: Option<&'a Arc<[Vec<u8>]>>,
    /// Other addresses of the endpoint.
    pub(crate) more: Option<&'a Arc<[SocketAddr]>>,
    /// The client that connections show.
    pub(crate) client: Option<&'a Arc<Client>>,
}

type Waiter = oneshot::Sender<Result<Lease, UpstreamError>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    cluster: Rc<ClusterCx>,
    target: Target,
    host: Arc<HostCounters>,
    kind: Kind,
    high: bool,
    /// For [`Kind::Auto`]: what ALPN decided last.
    learned: Cell<Option<Kind>>,
    retired: Cell<bool>,
    /// Connections and attempts.
    open: Cell<u32>,
    /// Attempts.
    connecting: Cell<u32>,
    /// HTTP/1 connections without work, the one used last at the end.
    idle: RefCell<Vec<Idle>>,
    /// HTTP/2 connections that take more streams.
    shared: RefCell<Vec<Rc<Http2Connection>>>,
    waiters: RefCell<VecDeque<Waiter>>,
}

#[derive(Debug)]
struct Idle {
    connection: Http1Connection,
    since: u32,
}

/// What a request gets from a pool.
#[derive(Debug)]
pub(crate) enum Checkout {
    Ready(Lease),
    Wait(Waiting),
}

/// A place in a pool's queue.
#[derive(Debug)]
pub(crate) struct Waiting {
    receiver: oneshot::Receiver<Result<Lease, UpstreamError>>,
    pool: Rc<Pool>,
}

impl Waiting {
    /// Waits for a connection; dropping the future gives the place up.
    pub(crate) async fn lease(mut self) -> Result<Lease, UpstreamError> {
        match (&mut self.receiver).await {
            Ok(result) => result,
            Err(_) => Err(UpstreamError::ConnectionClosed { reused: false }),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        sub(&self.pool.level().pending);
        self.pool.cluster.stats().rq_pending_active.dec();
    }
}

impl Pool {
    pub(crate) fn new(
        cluster: Rc<ClusterCx>,
        target: Target,
        host: Arc<HostCounters>,
        key: &PoolKey<'_>,
    ) -> Self {
        Self {
            cluster,
            target,
            host,
            kind: key.kind,
            high: key.high,
            learned: Cell::new(None),
            retired: Cell::new(false),
            open: Cell::new(0),
            connecting: Cell::new(0),
            idle: RefCell::default(),
            shared: RefCell::default(),
            waiters: RefCell::default(),
        }
    }

    pub(crate) fn is_for(&self, key: &PoolKey<'_>) -> bool {
        self.kind == key.kind
            && self.high == key.high
            && self.target.sni.as_deref() == key.sni
            && self.target.alpn.as_ref() == key.alpn
            && self.target.more.as_ref() == key.more
            && self.target.client.as_ref() == key.client
    }

    fn level(&self) -> &Level {
        self.cluster.limits.level(self.high)
    }

    /// Takes a connection or a place in the queue; `fresh` passes idle connections over.
    ///
    /// # Errors
    /// Too many are waiting (`max_pending_requests`).
    pub(crate) fn checkout(self: &Rc<Self>, fresh: bool) -> Result<Checkout, UpstreamError> {
        if !fresh && let Some(lease) = self.ready() {
            return Ok(Checkout::Ready(lease));
        }
        let level = self.level();
        let stats = self.cluster.stats();
        if level.pending.get() >= level.share().pending {
            stats.rq_pending_overflow.inc();
            return Err(UpstreamError::Overflow(Limit::Pending));
        }
        add(&level.pending);
        stats.rq_pending_active.inc();
        let (waiter, receiver) = oneshot::channel();
        self.waiters.borrow_mut().push_back(waiter);
        self.top_up();
        Ok(Checkout::Wait(Waiting { receiver, pool: Rc::clone(self) }))
    }

    fn ready(self: &Rc<Self>) -> Option<Lease> {
        loop {
            let Some(mut idle) = self.idle.borrow_mut().pop() else { break };
            if idle.connection.is_usable() && !self.too_old(&idle.connection.facts, idle.since) {
                let mut lease = Lease::http1(self, idle.connection);
                lease.stale = idle.since != self.cluster.worker.now();
                return Some(lease);
            }
        }
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| !connection.is_finished());
        let limit = self.cluster.settings().streams;
        let free = shared.iter().find(|connection| connection.has_room(limit))?;
        Some(Lease::http2(self, free))
    }

    /// Whether a connection that has been idle since then has to go.
    fn too_old(&self, facts: &ConnectionFacts, idle_since: u32) -> bool {
        let settings = self.cluster.settings();
        let now = self.cluster.worker.now();
        settings.idle.is_some_and(|limit| now.saturating_sub(idle_since) > limit)
            || self.worn_out(facts)
    }

    /// Whether a connection has served or lived long enough.
    fn worn_out(&self, facts: &ConnectionFacts) -> bool {
        let settings = self.cluster.settings();
        let age = self.cluster.worker.now().saturating_sub(facts.born);
        settings.requests.is_some_and(|limit| facts.served.get() >= limit)
            || settings.lifetime.is_some_and(|limit| age > limit)
    }

    /// How many requests one attempt will serve, as far as is known.
    fn capacity_of_attempt(&self) -> u32 {
        match self.learned.get().unwrap_or(self.kind) {
            Kind::Http1 => 1,
            // Until ALPN has decided, one attempt finds out for all.
            Kind::Http2 | Kind::Auto => self.cluster.settings().streams,
        }
    }

    /// Starts as many attempts as those who wait need and the breaker allows; at least one, if
    /// there is nothing else to wait for.
    fn top_up(self: &Rc<Self>) {
        loop {
            let waiting = self.waiting();
            if waiting <= self.connecting.get().saturating_mul(self.capacity_of_attempt()) {
                return;
            }
            if !self.level().connection_allowed() {
                self.cluster.stats().cx_overflow.inc();
                if self.open.get() > 0 {
                    return;
                }
            }
            driver::start(self);
        }
    }

    fn waiting(&self) -> u32 {
        let mut waiters = self.waiters.borrow_mut();
        waiters.retain(|waiter| !waiter.is_closed());
        u32::try_from(waiters.len()).unwrap_or(u32::MAX)
    }

    fn next_waiter(&self) -> Option<Waiter> {
        let mut waiters = self.waiters.borrow_mut();
        loop {
            let waiter = waiters.pop_front()?;
            if !waiter.is_closed() {
                return Some(waiter);
            }
        }
    }

    /// Takes an HTTP/1 connection: a new one, or one that is done with its last request.
    fn offer(self: &Rc<Self>, connection: Http1Connection) {
        if self.worn_out(&connection.facts) {
            return;
        }
        match self.next_waiter() {
            Some(waiter) => {
                // A failed send drops the lease, which offers the connection again.
                let _ = waiter.send(Ok(Lease::http1(self, connection)));
            }
            None if self.retired.get() => {}
            None => {
                let since = self.cluster.worker.now();
                self.idle.borrow_mut().push(Idle { connection, since });
            }
        }
    }

    /// Takes a new HTTP/2 connection.
    fn share(self: &Rc<Self>, connection: Rc<Http2Connection>) {
        self.serve(&connection);
        if !self.retired.get() {
            self.shared.borrow_mut().push(connection);
        }
    }

    /// Gives the room on a connection to those who wait.
    fn serve(self: &Rc<Self>, connection: &Rc<Http2Connection>) {
        while connection.has_room(self.cluster.settings().streams) {
            let Some(waiter) = self.next_waiter() else { return };
            let _ = waiter.send(Ok(Lease::http2(self, connection)));
        }
    }

    /// A stream has ended.
    fn released(self: &Rc<Self>, connection: &Rc<Http2Connection>) {
        if self.worn_out(&connection.facts) {
            connection.drain();
        }
        if !self.waiters.borrow().is_empty() {
            self.serve(connection);
        }
        if connection.is_finished() {
            self.shared.borrow_mut().retain(|shared| !Rc::ptr_eq(shared, connection));
            self.top_up();
        }
    }

    /// An attempt has failed: those that it was for are told, the others go on waiting.
    fn attempt_failed(self: &Rc<Self>, error: &UpstreamError) {
        let connecting = self.connecting.get();
        let established = self.open.get() > connecting + 1;
        let served = connecting.saturating_mul(self.capacity_of_attempt());
        while let Some(waiter) = self.next_waiter() {
            let _ = waiter.send(Err(error.clone()));
            if established || self.waiting() <= served {
                return;
            }
        }
    }

    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
        self.shared.borrow_mut().clear();
    }

    /// Closes what was idle for too long or has ended; returns whether anything is left.
    pub(crate) fn sweep(&self, now: u32) -> bool {
        self.idle.borrow_mut().retain_mut(|idle| {
            idle.connection.is_usable() && !self.too_old(&idle.connection.facts, idle.since)
        });
        let limit = self.cluster.settings().idle;
        self.shared.borrow_mut().retain(|connection| {
            if self.worn_out(&connection.facts) {
                connection.drain();
            }
            let idle = connection.idle_since().map_or(0, |since| now.saturating_sub(since));
            !connection.is_finished() && limit.is_none_or(|limit| idle <= limit)
        });
        self.open.get() > 0 || !self.waiters.borrow().is_empty()
    }
}
