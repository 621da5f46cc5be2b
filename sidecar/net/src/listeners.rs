//! The listeners of one worker: bound, kept and closed as the snapshot says.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use weft_model::{ListenAddress, Listener, SnapshotWatch, TrafficDirection};

use crate::balance::{Handed, Place, Seated, Share};
use crate::bind::{Accepted, ListenSocket};
use crate::drain::{Drain, DrainPlan, Phase};
use crate::establish::{Arrival, Established, establish};

/// How long a failed bind waits for its next try.
const BIND_RETRY: Duration = Duration::from_secs(1);
/// How long accepting pauses when no more files can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What happened to a socket of a listener.
#[derive(Clone, Debug)]
pub enum ListenerEvent {
    /// It listens.
    Bound {
        /// The listener's name.
        listener: Arc<str>,
        /// Where it was to listen.
        wanted: ListenAddress,
        /// Where it listens: the port differs where port 0 was wanted. `None`: at a path.
        bound: Option<SocketAddr>,
    },
    /// It could not be bound; it is tried again every second.
    Failed {
        /// The listener's name.
        listener: Arc<str>,
        /// Where it was to listen.
        address: ListenAddress,
        /// Why it does not.
        reason: String,
    },
    /// It was closed.
    Closed {
        /// Where it listened.
        address: ListenAddress,
    },
}

/// What a worker's listeners need.
#[derive(Clone)]
pub struct ListenerOptions {
    /// Where listeners come from.
    pub snapshot: SnapshotWatch,
    /// The worker's number; Unix sockets are bound by worker 0 alone.
    pub worker: usize,
    /// The worker's drain, which stands above those of its listeners.
    pub drain: Drain,
    /// How connections of listeners that are changed or removed are ended.
    pub drain_plan: DrainPlan,
    /// Told of every event.
    pub events: Rc<dyn Fn(ListenerEvent)>,
}

/// The listeners of one worker.
pub struct ListenerSet<S> {
    options: ListenerOptions,
    serve: S,
    open: BTreeMap<ListenAddress, Open>,
    failed: BTreeSet<ListenAddress>,
    stopped: Rc<RefCell<Stopped>>,
    share: Option<Share>,
}

/// Which listeners accept no more connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stopped {
    /// None.
    #[default]
    None,
    /// Those of inbound traffic.
    Inbound,
    /// All.
    All,
}

impl Stopped {
    fn includes(self, listener: &Listener) -> bool {
        match self {
            Self::None => false,
            Self::Inbound => listener.direction == TrafficDirection::Inbound,
            Self::All => true,
        }
    }
}

/// Stops accepting from outside of [`ListenerSet::run`].
#[derive(Clone)]
pub struct StopAccepting {
    stopped: Rc<RefCell<Stopped>>,
    changed: Rc<Notify>,
}

impl StopAccepting {
    /// Closes the sockets of these listeners; connections that are open are not touched.
    pub fn stop(&self, which: Stopped) {
        *self.stopped.borrow_mut() = which;
        self.changed.notify_one();
    }
}

/// One socket that is bound.
struct Open {
    current: Rc<RefCell<(Arc<Listener>, Drain)>>,
    accepting: AbortHandle,
    /// Ends accepting once the queue is empty.
    closing: Rc<Notify>,
}

impl<S, F> ListenerSet<S>
where
    S: Fn(Established) -> F + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    /// No listener yet; each connection is given to `serve` in a task of its own.
    pub fn new(options: ListenerOptions, serve: S) -> Self {
        Self {
            options,
            serve,
            open: BTreeMap::new(),
            failed: BTreeSet::new(),
            stopped: Rc::default(),
            share: None,
        }
    }

    /// Shares connections with other workers, so that none has many more than the others.
    #[must_use]
    pub fn sharing(mut self, share: Share) -> Self {
        self.share = Some(share);
        self
    }

    /// Follows the snapshot until its publisher is gone; then, or when dropped, sockets are closed.
    pub async fn run(mut self, ready: impl FnOnce(StopAccepting)) {
        let changed = Rc::new(Notify::new());
        let stopped = Rc::clone(&self.stopped);
        ready(StopAccepting { stopped, changed: Rc::clone(&changed) });
        loop {
            self.apply();
            let retry = tokio::time::sleep(BIND_RETRY);
            tokio::pin!(retry);
            loop {
                // Order does not matter: a connection that was handed over changes no socket.
                tokio::select! {
                    news = self.options.snapshot.changed() => match news {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    () = changed.notified() => break,
                    () = &mut retry, if !self.failed.is_empty() => break,
                    handed = handed_over(&mut self.share) => self.receive(handed),
                }
            }
        }
    }

    /// Serves a connection that another worker has accepted.
    fn receive(&self, handed: Handed) {
        // Its listener may not be bound here yet, or not any more.
        let (listener, drain) = match self.open.get(&handed.address) {
            Some(open) => open.current.borrow().clone(),
            None => (Arc::clone(&handed.listener), self.options.drain.child()),
        };
        let addresses = handed.addresses;
        match handed.arrive() {
            Ok((stream, counted)) => {
                let arrival =
                    Arrival { stream, addresses, listener, drain, counted: Some(counted) };
                let (snapshot, serve) = (self.options.snapshot.clone(), self.serve.clone());
                spawn_local(connection(arrival, snapshot, serve));
            }
            Err(error) => tracing::debug!(%error, "a connection could not be taken over"),
        }
    }

    /// Makes the sockets those of the current snapshot.
    fn apply(&mut self) {
        let snapshot = Arc::clone(&self.options.snapshot.borrow_and_update());
        let stopped = *self.stopped.borrow();
        let mut wanted = BTreeMap::new();
        for listener in snapshot.listeners.values() {
            if listener.bind && !stopped.includes(listener) {
                for address in &listener.addresses {
                    let ours = matches!(address, ListenAddress::Socket(_));
                    if ours || self.options.worker == 0 {
                        wanted.insert(address.clone(), Arc::clone(listener));
                    }
                }
            }
        }
        self.close_unwanted(&wanted);
        self.failed.retain(|address| wanted.contains_key(address));
        for (address, listener) in wanted {
            match self.open.get(&address) {
                Some(open) => self.replace(open, listener),
                None => self.bind(address, listener),
            }
        }
    }

    fn close_unwanted(&mut self, wanted: &BTreeMap<ListenAddress, Arc<Listener>>) {
        // A socket keeps its options for life: with other ones it has to be bound anew.
        let (kept, unwanted) = std::mem::take(&mut self.open).into_iter().partition(
            |(address, open): &(ListenAddress, Open)| {
                let current = open.current.borrow();
                wanted.get(address).is_some_and(|listener| same_socket(listener, &current.0))
            },
        );
        self.open = kept;
        for (address, open) in unwanted {
            open.closing.notify_one();
            let drain = open.current.borrow().1.clone();
            self.drain(drain);
            if let ListenAddress::Pipe(path) = &address {
                // The file may be gone already.
                let _ = std::fs::remove_file(path);
            }
            (self.options.events)(ListenerEvent::Closed { address });
        }
    }

    /// A changed listener takes its socket over; the connections of the old one drain.
    fn replace(&self, open: &Open, listener: Arc<Listener>) {
        let mut current = open.current.borrow_mut();
        if Arc::ptr_eq(&current.0, &listener) {
            return;
        }
        let same = current.0.name == listener.name && current.0.fingerprint == listener.fingerprint;
        current.0 = listener;
        if !same {
            let old = std::mem::replace(&mut current.1, self.options.drain.child());
            self.drain(old);
        }
    }

    fn drain(&self, drain: Drain) {
        let plan = self.options.drain_plan;
        if drain.connections() > 0 && drain.phase() == Phase::Serving {
            spawn_local(async move { drain.run(plan).await });
        }
    }

    fn bind(&mut self, address: ListenAddress, listener: Arc<Listener>) {
        let name = Arc::clone(&listener.name);
        match ListenSocket::bind(&address, &listener) {
            Ok(socket) => {
                let bound = socket.address();
                let current = Rc::new(RefCell::new((listener, self.options.drain.child())));
                let closing = Rc::new(Notify::new());
                let acceptor = Acceptor {
                    address: address.clone(),
                    closing: Rc::clone(&closing),
                    current: Rc::clone(&current),
                    snapshot: self.options.snapshot.clone(),
                    place: self.share.as_ref().map(|share| share.place.clone()),
                    serve: self.serve.clone(),
                };
                let accepting = spawn_local(acceptor.run(socket)).abort_handle();
                self.open.insert(address.clone(), Open { current, accepting, closing });
                self.failed.remove(&address);
                let wanted = address;
                (self.options.events)(ListenerEvent::Bound { listener: name, wanted, bound });
            }
            Err(error) => {
                if self.failed.insert(address.clone()) {
                    let reason = error.to_string();
                    (self.options.events)(ListenerEvent::Failed {
                        listener: name,
                        address,
                        reason,
                    });
                }
            }
        }
    }
}

impl<S> Drop for ListenerSet<S> {
    fn drop(&mut self) {
        for open in self.open.values() {
            open.accepting.abort();
        }
    }
}

fn same_socket(a: &Listener, b: &Listener) -> bool {
    (a.transparent, a.freebind, a.backlog) == (b.transparent, b.freebind, b.backlog)
        && a.socket_options == b.socket_options
}

/// The next connection from another worker; none ever comes to a worker that is alone.
async fn handed_over(share: &mut Option<Share>) -> Handed {
    if let Some(share) = share
        && let Some(handed) = share.next().await
    {
        return handed;
    }
    std::future::pending().await
}

/// What a socket's connections need.
struct Acceptor<S> {
    address: ListenAddress,
    closing: Rc<Notify>,
    current: Rc<RefCell<(Arc<Listener>, Drain)>>,
    snapshot: SnapshotWatch,
    place: Option<Place>,
    serve: S,
}

impl<S, F> Acceptor<S>
where
    S: Fn(Established) -> F + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    /// Accepts connections for as long as the socket is wanted, and then those that were made.
    async fn run(self, socket: ListenSocket) {
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = self.closing.notified() => break,
            };
            match accepted {
                Ok(accepted) => self.accepted(accepted),
                Err(error) if is_exhaustion(&error) => {
                    tracing::warn!(%error, "accepting pauses");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                // The client left while it was in the queue.
                Err(error) => tracing::debug!(%error, "a connection could not be accepted"),
            }
        }
        for accepted in socket.close() {
            self.accepted(accepted);
        }
    }

    /// Serves a connection, or gives it to a worker that has fewer.
    fn accepted(&self, (stream, addresses): Accepted) {
        let (listener, drain) = self.current.borrow().clone();
        let seated = self.place.as_ref().map(|place| place.seat(listener.exact_balance));
        let counted = match seated {
            Some(Seated::There(counted, permit)) => {
                let origin = (self.address.clone(), listener);
                match Handed::new(stream, addresses, origin, counted) {
                    Ok(handed) => permit.send(handed),
                    Err(error) => tracing::debug!(%error, "a connection could not be handed over"),
                }
                return;
            }
            Some(Seated::Here(counted)) => Some(counted),
            None => None,
        };
        let arrival = Arrival { stream, addresses, listener, drain, counted };
        spawn_local(connection(arrival, self.snapshot.clone(), self.serve.clone()));
    }
}

async fn connection<S, F>(arrival: Arrival, snapshot: SnapshotWatch, serve: S)
where
    S: Fn(Established) -> F,
    F: Future<Output = ()>,
{
    let listener = Arc::clone(&arrival.listener);
    let mut forced = arrival.drain.watch();
    let established = tokio::select! {
        biased;
        established = Box::pin(establish(arrival, &snapshot)) => established,
        // Nothing of the application has been exchanged: closing it early is safe.
        () = forced.reached(Phase::Closing) => return,
    };
    drop((forced, snapshot));
    match established {
        Ok(established) => {
            drop(listener);
            serve(established).await;
        }
        Err(refused) => {
            tracing::debug!(listener = %listener.name, %refused, "a connection was refused");
        }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let codes = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|code| codes.contains(&Errno::from_raw(code)))
}

#[cfg(test)]
mod tests;
