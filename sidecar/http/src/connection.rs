//! One downstream HTTP connection: its codec, its end, and what its streams share.

mod http1;
mod http2;
mod sniff;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use weft_codec::CodecError;
use weft_filter_api::ConnectionFacts;
use weft_model::{HttpConnectionManager, RouteSource, Routes};
use weft_net::{Deadline, Drain, DrainWatch, Established, Phase};
use weft_telemetry::clock;

use crate::worker::WorkerCx;
use sniff::Speaks;

/// What the streams of one connection share.
#[derive(Debug)]
pub(crate) struct HttpConnection {
    pub(crate) manager: Arc<HttpConnectionManager>,
    pub(crate) facts: Arc<ConnectionFacts>,
    pub(crate) worker: Rc<WorkerCx>,
    pub(crate) drain: Drain,
    /// The routes seen last: one count of their references for all requests of a connection.
    routes: RefCell<Option<Rc<SeenRoutes>>>,
    /// Whether responses announce that the connection ends.
    ending: Cell<bool>,
    active: Cell<u32>,
    begun: Cell<u32>,
    idle_since: Cell<Instant>,
}

/// A route table that requests hold while they need it, counted on this thread alone.
#[derive(Debug)]
pub(crate) struct SeenRoutes(Arc<Routes>);

impl std::ops::Deref for SeenRoutes {
    type Target = Routes;

    fn deref(&self) -> &Routes {
        &self.0
    }
}

impl HttpConnection {
    fn new(
        established: &Established,
        manager: Arc<HttpConnectionManager>,
        worker: Rc<WorkerCx>,
    ) -> Self {
        Self {
            manager,
            facts: Arc::clone(&established.facts),
            worker,
            drain: established.guard.drain.drain().clone(),
            routes: RefCell::default(),
            ending: Cell::new(false),
            active: Cell::new(0),
            begun: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
        }
    }

    /// Whether the client speaks TLS to the proxy.
    pub(crate) fn is_secure(&self) -> bool {
        self.facts.tls.is_some()
    }

    /// Whether a response has to announce that the connection ends.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// The routes at the moment; `None` when they have not arrived yet.
    pub(crate) fn routes(&self) -> Option<Rc<SeenRoutes>> {
        let mut known = self.routes.borrow_mut();
        let guard;
        let current = match &self.manager.routes {
            RouteSource::Inline(routes) => routes,
            RouteSource::Discovered(slot) => {
                guard = slot.peek();
                guard.as_ref()?
            }
        };
        match &*known {
            Some(known) if Arc::ptr_eq(&known.0, current) => Some(Rc::clone(known)),
            _ => {
                let fresh = Rc::new(SeenRoutes(Arc::clone(current)));
                *known = Some(Rc::clone(&fresh));
                Some(fresh)
            }
        }
    }

    /// The connection ends after the response that is being made.
    pub(crate) fn end(&self) {
        self.ending.set(true);
    }

    /// A stream begins.
    pub(crate) fn begin_stream(&self) {
        self.active.set(self.active.get() + 1);
        let begun = self.begun.get() + 1;
        self.begun.set(begun);
        if self.manager.max_requests_per_connection.is_some_and(|max| max > 0 && begun >= max) {
            self.ending.set(true);
        }
    }

    /// When the connection has been idle for too long, unless it is busy.
    fn idle_until(&self) -> Option<Instant> {
        let idle = self.manager.idle_timeout.filter(|idle| !idle.is_zero())?;
        (self.active.get() == 0).then(|| self.idle_since.get().checked_add(idle))?
    }

    /// A stream ends; returns the moment.
    pub(crate) fn end_stream(&self) -> Instant {
        let now = clock::now();
        self.active.set(self.active.get().saturating_sub(1));
        self.idle_since.set(now);
        now
    }
}

/// Serves an HTTP connection to its end.
pub(crate) async fn serve(
    established: Established,
    manager: Arc<HttpConnectionManager>,
    worker: Rc<WorkerCx>,
) {
    let connection = Rc::new(HttpConnection::new(&established, manager, worker));
    let stats = &connection.manager.stats;
    stats.cx_total.inc();
    stats.cx_active.inc();
    // The guard counts the connection as open until the end of this function.
    let Established { stream, guard, chain: _, .. } = established;
    let mut guard = guard;
    serve_stream(&connection, stream, &mut guard.drain).await;
    connection.manager.stats.cx_active.dec();
}

async fn serve_stream(
    connection: &Rc<HttpConnection>,
    stream: weft_net::DownstreamStream,
    drain: &mut DrainWatch,
) {
    let sniffed = Box::pin(sniff::speaks(connection, stream, drain)).await;
    let Some((sniffed, speaks)) = sniffed else { return };
    let stats = &connection.manager.stats;
    let result = match speaks {
        Speaks::Http1 => {
            stats.cx_http1_total.inc();
            http1::http1(connection, sniffed, drain).await
        }
        Speaks::Http2 => {
            stats.cx_http2_total.inc();
            Drive::new(http2::http2(connection, sniffed), connection, drain).await
        }
    };
    if let Err(error) = result {
        if matches!(error, CodecError::Malformed(_)) {
            stats.cx_protocol_error.inc();
        }
        tracing::debug!(%error, remote = %connection.facts.remote, "an HTTP connection failed");
    }
}

/// A codec as the driver sees it.
pub(crate) trait Codec {
    /// Whether an announcement goes out at once (GOAWAY) and not with the next response.
    const ANNOUNCES: bool;

    /// Goes on with the connection; ready when it has ended.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>>;

    /// Ends the connection as soon as no stream is left.
    fn shut_down(self: Pin<&mut Self>);
}

pin_project! {
    /// Drives a codec to its end and ends it in time.
    struct Drive<'a, C> {
        #[pin]
        codec: C,
        connection: &'a Rc<HttpConnection>,
        drain: &'a mut DrainWatch,
        deadline: Deadline,
        ends_at: Option<Instant>,
        shutting_down: bool,
    }
}

impl<'a, C: Codec> Drive<'a, C> {
    fn new(codec: C, connection: &'a Rc<HttpConnection>, drain: &'a mut DrainWatch) -> Self {
        let begun = connection.idle_since.get();
        let longest = connection.manager.max_connection_duration;
        Self {
            codec,
            connection,
            drain,
            deadline: connection.worker.timers.deadline(),
            ends_at: longest.and_then(|longest| begun.checked_add(longest)),
            shutting_down: false,
        }
    }
}

impl<C: Codec> Future for Drive<'_, C> {
    type Output = Result<(), CodecError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        let _turn = clock::Turn::begin();
        let mut this = self.project();
        loop {
            while let Poll::Ready(phase) = this.drain.poll_phase(cx) {
                if phase == Phase::Forced {
                    return Poll::Ready(Ok(()));
                }
                this.connection.ending.set(true);
                if phase >= Phase::Closing {
                    *this.shutting_down = true;
                    this.codec.as_mut().shut_down();
                }
            }
            if C::ANNOUNCES && this.connection.ending.get() && !*this.shutting_down {
                *this.shutting_down = true;
                this.codec.as_mut().shut_down();
            }
            if let Poll::Ready(result) = this.codec.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            if *this.shutting_down {
                return Poll::Pending;
            }
            this.deadline.set(earliest(this.connection.idle_until(), *this.ends_at));
            if this.deadline.poll_due(cx).is_pending() {
                return Poll::Pending;
            }
            this.deadline.set(None);
            *this.ends_at = None;
            this.connection.ending.set(true);
            if this.connection.active.get() == 0 {
                *this.shutting_down = true;
                this.codec.as_mut().shut_down();
            }
        }
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
