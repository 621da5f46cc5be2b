//! Drives an HTTP/1 connection to its end, and ends it in time.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use weft_codec::CodecError;
use weft_codec::http1::{Refusal, ServerConnection, ServerOptions, Service, Spelling, Waits};
use weft_model::HttpConnectionManager;
use weft_net::{Deadline, DownstreamStream, DrainWatch, Phase};
use weft_telemetry::clock;

use super::sniff::Sniffed;
use super::{HttpConnection, earliest};
use crate::manager;

/// How long a client that is still sending may take to read the last response
/// (`delayed_close_timeout`).
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// The codec of a connection; its requests are handled by the connection manager.
pub(super) fn http1<'a>(
    connection: &'a Rc<HttpConnection>,
    sniffed: Sniffed,
    drain: &'a mut DrainWatch,
) -> impl Future<Output = Result<(), CodecError>> + use<'a> {
    let (answering, refusing) = (Rc::clone(connection), Rc::clone(connection));
    let service = (
        move |request| manager::handle(&answering, request),
        move |refusal| manager::refuse(&refusing, refusal),
    );
    let (stream, seen) = sniffed.into_parts();
    let longest = connection.manager.max_connection_duration;
    Http1 {
        server: ServerConnection::new(stream, &seen, service, options(&connection.manager)),
        connection,
        drain,
        deadline: connection.worker.timers.deadline(),
        ends_at: longest.and_then(|longest| connection.idle_since.get().checked_add(longest)),
        limited: None,
    }
}

fn options(manager: &HttpConnectionManager) -> ServerOptions {
    let spelling = if manager.http1.preserve_case {
        Spelling::Preserved
    } else if manager.http1.title_case {
        Spelling::Title
    } else {
        Spelling::Lower
    };
    ServerOptions {
        max_head_bytes: usize::try_from(manager.max_header_bytes).unwrap_or(usize::MAX),
        max_headers: usize::try_from(manager.max_headers).unwrap_or(usize::MAX),
        spelling,
    }
}

struct Http1<'a, S: Service> {
    server: ServerConnection<DownstreamStream, S>,
    connection: &'a Rc<HttpConnection>,
    drain: &'a mut DrainWatch,
    deadline: Deadline,
    /// `max_connection_duration`
    ends_at: Option<Instant>,
    /// What else is waited for, and until when.
    limited: Option<(Waits, Instant)>,
}

impl<S: Service> Http1<'_, S> {
    /// Until when what the connection waits for has to come.
    fn limit(&mut self) -> Option<Instant> {
        let waits = self.server.waits();
        let longest = match waits {
            Waits::Exchange => return self.ends_at,
            Waits::Request => return earliest(self.connection.idle_until(), self.ends_at),
            Waits::Head => {
                let limit = self.connection.manager.request_headers_timeout;
                limit.filter(|limit| !limit.is_zero())
            }
            Waits::Close => Some(LINGER),
        };
        match (self.limited, longest) {
            (Some((known, at)), _) if known == waits => Some(at),
            (_, None) => self.ends_at,
            (_, Some(longest)) => {
                let at = clock::now().checked_add(longest)?;
                self.limited = Some((waits, at));
                Some(at)
            }
        }
    }

    /// The limit is passed; whether the connection ends at once.
    fn passed(&mut self) -> bool {
        let waits = self.server.waits();
        let head_is_late = self.limited.take().is_some_and(|(limited, _)| limited == waits);
        match waits {
            Waits::Close => return true,
            Waits::Head if head_is_late => self.server.refuse(Refusal::Late),
            Waits::Request | Waits::Head | Waits::Exchange => {
                self.ends_at = None;
                self.connection.ending.set(true);
                self.server.shut_down();
            }
        }
        false
    }
}

impl<S: Service + Unpin> Future for Http1<'_, S> {
    type Output = Result<(), CodecError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        let _turn = clock::Turn::begin();
        let this = self.get_mut();
        loop {
            while let Poll::Ready(phase) = this.drain.poll_phase(cx) {
                if phase == Phase::Forced {
                    return Poll::Ready(Ok(()));
                }
                this.connection.ending.set(true);
                if phase >= Phase::Closing {
                    this.server.shut_down();
                }
            }
            if let Poll::Ready(result) = this.server.poll(cx) {
                return Poll::Ready(result);
            }
            // A deadline of the time between requests stays armed while one is served: it will
            // be moved on, which costs less than taking it away and setting it again.
            let Some(at) = this.limit() else { return Poll::Pending };
            this.deadline.set(Some(at));
            if this.deadline.poll_due(cx).is_pending() {
                return Poll::Pending;
            }
            this.deadline.set(None);
            if this.passed() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
