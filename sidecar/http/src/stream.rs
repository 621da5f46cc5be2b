//! What is known about one request until its response has ended.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts as RequestHead;
use http::{HeaderMap, Request, Version};
use http_body::Frame;
use tokio::time::Instant;
use weft_codec::{CodecError, Incoming};
use weft_filter_api::{LocalReply, Protocol, StreamCx};
use weft_model::Route;
use weft_telemetry::{LogRecord, ResponseFlag, clock};

use crate::connection::HttpConnection;
use crate::filters;
use crate::forward::Limits;
use crate::messages::MessageCounter;
use crate::timer::{Expired, StreamTimer};
use crate::trace::ActiveSpan;

/// One stream: made when its request's head has arrived; when it is dropped, it is counted and
/// logged, however it ended.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) cx: StreamCx,
    /// The request's head, until it goes upstream.
    pub(crate) head: RequestHead,
    /// The request's body, until it goes upstream.
    pub(crate) incoming: Option<Incoming>,
    pub(crate) connection: Rc<HttpConnection>,
    pub(crate) timer: StreamTimer,
    /// The request's body, where it has one.
    pub(crate) progress: Option<Rc<RequestProgress>>,
    limits: Limits,
    /// When the request had been received whole.
    request_over: Option<Instant>,
    seen_frames: u32,
    /// What is kept for those that see how the stream ends.
    observed: Option<Box<Observed>>,
    /// The heads, where an access log or a filter wants them.
    logged: Option<Box<Logged>>,
    status: u16,
    /// Bytes of the response's body.
    pub(crate) sent: u64,
    /// Whether the client left before it could be answered.
    pub(crate) abandoned: bool,
    pub(crate) end: End,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// Not yet; dropped like this, the client has left.
    #[default]
    Open,
    /// The response went out whole.
    Whole,
    /// By a limit that has no flag of its own.
    Limit,
    /// Not yet: it goes on with the request that a redirect asks for.
    Again,
}

/// How far a request's body has come; shared with the body itself.
#[derive(Debug, Default)]
pub(crate) struct RequestProgress {
    /// Bytes received.
    pub(crate) received: Cell<u64>,
    /// Whether all of it was received.
    pub(crate) ended: Cell<bool>,
    /// Counts frames, to tell idleness.
    pub(crate) frames: Cell<u32>,
    /// Whether the client's codec could not make sense of it.
    pub(crate) malformed: Cell<bool>,
    /// Counts gRPC messages, where somebody wants to know.
    pub(crate) messages: Cell<Option<MessageCounter>>,
    /// Who waits for the end.
    pub(crate) waiting: RefCell<Option<Waker>>,
    /// What a filter that ended the body says to the client.
    pub(crate) refusal: RefCell<Option<Box<LocalReply>>>,
}

impl RequestProgress {
    /// Of a request without a body.
    pub(crate) fn over() -> Self {
        Self { ended: Cell::new(true), ..Self::default() }
    }

    /// A frame arrived, or the body ended or failed.
    pub(crate) fn passed(&self, frame: Option<&Result<Frame<Bytes>, CodecError>>) {
        self.frames.set(self.frames.get().wrapping_add(1));
        match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.received.set(self.received.get() + bytes as u64);
                if let (Some(mut messages), Some(data)) = (self.messages.get(), frame.data_ref()) {
                    messages.feed(data);
                    self.messages.set(Some(messages));
                }
            }
            Some(Err(error)) => self.malformed.set(matches!(error, CodecError::Malformed(_))),
            None => {}
        }
    }

    /// All of the body has arrived.
    pub(crate) fn end(&self) {
        self.ended.set(true);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

/// What only some streams keep to their end.
#[derive(Debug, Default)]
struct Observed {
    /// The route, where filters see how the stream ends.
    route: Option<Arc<Route>>,
    /// Counts the response's gRPC messages, where somebody wants to know.
    messages: Option<MessageCounter>,
    /// The span, where requests are traced.
    span: Option<ActiveSpan>,
}

#[derive(Debug)]
struct Logged {
    request: RequestHead,
    response: HeaderMap,
    trailers: Option<HeaderMap>,
    until_response: Option<Duration>,
}

impl Stream {
    /// A stream whose request's head has just arrived.
    pub(crate) fn begin(connection: &Rc<HttpConnection>, request: Request<Incoming>) -> Box<Self> {
        connection.begin_stream();
        let (head, incoming) = request.into_parts();
        let protocol = protocol(head.version);
        let cx = StreamCx::new(connection.facts.clone(), protocol);
        let stats = &connection.manager.stats;
        stats.rq_total.inc();
        stats.rq_active.inc();
        match protocol {
            Protocol::Http2 => stats.rq_http2_total.inc(),
            Protocol::Http10 | Protocol::Http11 => stats.rq_http1_total.inc(),
        }
        let mut timer = StreamTimer::new(&connection.worker.timers, cx.started);
        let manager = &connection.manager;
        let limit = |limit: Option<Duration>| {
            cx.started.checked_add(limit.filter(|limit| !limit.is_zero())?)
        };
        timer.limit_idle(manager.stream_idle_timeout);
        timer.limit_request(limit(manager.request_timeout));
        timer.limit_duration(limit(manager.max_stream_duration));
        // Large: made where it stays.
        let place = Box::new_uninit();
        let stream = Self {
            cx,
            head,
            incoming: Some(incoming),
            connection: Rc::clone(connection),
            timer,
            progress: None,
            limits: Limits::default(),
            request_over: None,
            seen_frames: 0,
            observed: None,
            logged: None,
            status: 0,
            sent: 0,
            abandoned: false,
            end: End::Open,
        };
        Box::write(place, stream)
    }

    /// Counts the messages of a gRPC call from here on.
    pub(crate) fn count_messages(&mut self) {
        self.observed.get_or_insert_default().messages = Some(MessageCounter::default());
    }

    /// For a request's body that begins to arrive.
    pub(crate) fn new_progress(&mut self) -> Rc<RequestProgress> {
        let counted = self.observed.as_ref().and_then(|observed| observed.messages);
        let messages = Cell::new(counted.map(|_| MessageCounter::default()));
        let progress = Rc::new(RequestProgress { messages, ..RequestProgress::default() });
        self.progress = Some(Rc::clone(&progress));
        progress
    }

    /// A piece of the response's body was sent.
    pub(crate) fn sent_data(&mut self, data: &Bytes) {
        self.sent += data.len() as u64;
        if let Some(observed) = &mut self.observed
            && let Some(messages) = &mut observed.messages
        {
            messages.feed(data);
        }
    }

    /// Messages of a gRPC call, to the upstream and from it.
    fn message_counts(&self) -> Option<(u64, u64)> {
        let from = self.observed.as_ref()?.messages?.count();
        let to = self.progress.as_ref().and_then(|progress| progress.messages.get());
        Some((to.map_or(0, MessageCounter::count), from))
    }

    /// The request is traced from here on.
    pub(crate) fn trace(&mut self, span: ActiveSpan) {
        self.observed.get_or_insert_default().span = Some(span);
    }

    /// The span that the request has, and the request's head.
    pub(crate) fn span(&mut self) -> Option<(&mut ActiveSpan, &mut RequestHead)> {
        Some((self.observed.as_mut()?.span.as_mut()?, &mut self.head))
    }

    /// The span that will be reported.
    fn sampled_span(&self) -> Option<&ActiveSpan> {
        self.observed.as_ref()?.span.as_ref().filter(|span| span.is_sampled())
    }

    /// Keeps the route for filters that see how the stream ends.
    pub(crate) fn keep_route(&mut self, route: Option<&Arc<Route>>) {
        self.observed.get_or_insert_default().route = route.cloned();
    }

    /// Whether anybody is told how the stream ended.
    fn is_recorded(&self) -> bool {
        let manager = &self.connection.manager;
        !manager.access_logs.is_empty()
            || manager.filters.see_ends()
            || self.sampled_span().is_some()
    }

    /// Keeps the request's head for the access log, as it is sent upstream.
    pub(crate) fn log_request(&mut self) {
        if self.is_recorded() || self.connection.manager.local_replies.is_some() {
            self.logged = Some(Box::new(Logged {
                request: copy_of(&self.head),
                response: HeaderMap::new(),
                trailers: None,
                until_response: None,
            }));
        }
    }

    /// The request's head, as far as it is still known.
    pub(crate) fn request_head(&self) -> &RequestHead {
        self.logged.as_deref().map_or(&self.head, |logged| &logged.request)
    }

    /// Keeps the response's head for the access log.
    pub(crate) fn log_response(&mut self, status: u16, headers: &HeaderMap) {
        if !self.abandoned {
            self.status = status;
        }
        if let Some(logged) = &mut self.logged {
            logged.response.clone_from(headers);
        }
    }

    /// Keeps the response's trailers for the access log.
    pub(crate) fn log_trailers(&mut self, trailers: &HeaderMap) {
        if let Some(logged) = &mut self.logged {
            logged.trailers = Some(trailers.clone());
        }
    }

    /// The upstream's response has begun.
    pub(crate) fn response_began(&mut self) {
        if let Some(logged) = &mut self.logged {
            let now = clock::now();
            logged.until_response = Some(now.saturating_duration_since(self.cx.started));
        }
    }

    /// The request goes upstream; the limits count from when it has been received whole.
    pub(crate) fn begin_exchange(&mut self, limits: Limits) {
        self.limits = limits;
        match &self.progress {
            None => self.request_is_over(self.cx.started),
            Some(progress) if progress.ended.get() => self.request_is_over(clock::now()),
            Some(_) => {}
        }
    }

    /// A try begins.
    pub(crate) fn begin_try(&mut self) {
        if self.request_over.is_some() {
            self.limit_try();
        }
    }

    fn limit_try(&mut self) {
        if let Some(limit) = self.limits.one_try {
            self.timer.limit_try(clock::now().checked_add(limit));
        }
        self.timer.set_trying(true);
    }

    fn request_is_over(&mut self, now: Instant) {
        self.request_over = Some(now);
        self.timer.limit_request(None);
        let limit = self.limits.response;
        self.timer.limit_response(limit.and_then(|limit| now.checked_add(limit)));
    }

    /// Ready when a time limit is passed. To be polled when nothing else can go on.
    pub(crate) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        if self.request_over.is_none()
            && let Some(progress) = self.progress.clone()
        {
            let frames = progress.frames.get();
            if frames != self.seen_frames {
                self.seen_frames = frames;
                self.timer.touch();
            }
            if progress.ended.get() {
                self.request_is_over(clock::now());
                if !self.responded() {
                    self.limit_try();
                }
            } else {
                *progress.waiting.borrow_mut() = Some(cx.waker().clone());
            }
        }
        self.timer.poll(cx)
    }

    /// Time from the end of the request until now.
    pub(crate) fn service_time(&self) -> Duration {
        self.request_over
            .map_or(Duration::ZERO, |over| clock::now().saturating_duration_since(over))
    }

    /// Whether the request has been received whole.
    pub(crate) fn request_ended(&self) -> bool {
        self.progress.as_ref().is_none_or(|progress| progress.ended.get())
    }

    /// Counts something rare for the stream's cluster: it is registered when it is counted.
    pub(crate) fn count_for_cluster(&self, name: &str) {
        let snapshot = self.connection.worker.snapshot.borrow();
        let cluster = self.cx.cluster.as_ref().and_then(|name| snapshot.clusters.get(&**name));
        if let Some(handle) = cluster {
            handle.stats_scope().counter(name).inc();
        }
    }

    /// So much was received of what is no longer HTTP.
    pub(crate) fn received(&mut self, bytes: u64) {
        let progress = self.progress.get_or_insert_with(|| Rc::new(RequestProgress::over()));
        progress.received.set(progress.received.get() + bytes);
    }

    /// Whether a response was begun.
    pub(crate) fn responded(&self) -> bool {
        self.status != 0
    }

    fn tell_end(&self, duration: Duration) {
        let logged = self.logged.as_deref();
        let since = |moment: Instant| moment.saturating_duration_since(self.cx.started);
        // A request without a body is whole when it arrives.
        let at_once = || self.progress.is_none().then_some(Duration::ZERO);
        let record = LogRecord {
            duration: Some(duration),
            until_request_end: self.request_over.map(since).or_else(at_once),
            until_response: logged.and_then(|logged| logged.until_response),
            response_headers: logged.map(|logged| &logged.response),
            response_trailers: logged.and_then(|logged| logged.trailers.as_ref()),
            status: self.status,
            bytes_received: self.progress.as_ref().map_or(0, |progress| progress.received.get()),
            bytes_sent: self.sent,
            trace: self.observed.as_ref().and_then(|observed| Some(observed.span.as_ref()?.ids())),
            messages: self.message_counts(),
            clusters: Some(&*self.connection.worker),
            ..self.cx.record(logged.map(|logged| &logged.request))
        };
        for log in &self.connection.manager.access_logs {
            log.log(&record);
        }
        if let Some(span) = self.sampled_span() {
            span.finish(&record, self.cx.started);
        }
        if self.connection.manager.filters.see_ends() {
            let entries = &self.connection.manager.filters;
            let observed = self.observed.as_ref();
            let route = observed.and_then(|observed| observed.route.as_deref());
            filters::finished(entries, &self.cx, &record, route);
        }
    }
}

/// A copy of a request's head, without what the codec attached to it.
pub(crate) fn copy_of(head: &RequestHead) -> RequestHead {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method.clone_from(&head.method);
    copy.uri.clone_from(&head.uri);
    copy.version = head.version;
    copy.headers.clone_from(&head.headers);
    copy
}

fn protocol(version: Version) -> Protocol {
    match version {
        Version::HTTP_2 => Protocol::Http2,
        Version::HTTP_10 => Protocol::Http10,
        _ => Protocol::Http11,
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let stats = &self.connection.manager.stats;
        stats.rq_active.dec();
        if self.abandoned {
            stats.rq_rx_reset.inc();
        } else if self.end == End::Open && self.cx.flags.is_empty() {
            // Nobody on our side ended it: the client did.
            match self.cx.protocol {
                Protocol::Http2 => self.cx.flags.set(ResponseFlag::DownstreamRemoteReset),
                Protocol::Http10 | Protocol::Http11 => {
                    self.cx.flags.set(ResponseFlag::DownstreamConnectionTermination);
                }
            }
            self.cx.details = "downstream_remote_disconnect".into();
            stats.rq_rx_reset.inc();
        }
        if self.status != 0 {
            stats.count_status(self.status);
        }
        let now = self.connection.end_stream();
        let duration = now.saturating_duration_since(self.cx.started);
        stats.rq_time.record(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        if self.is_recorded() {
            self.tell_end(duration);
        }
    }
}
