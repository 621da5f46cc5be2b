//! A request's body: passed on frame by frame, counted, and kept for another try where one may come.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::UPGRADE;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use weft_codec::{CodecError, Incoming};
use weft_filter_api::{BodyError, BoxedBody, MessageBody};
use weft_upstream::RequestBody;

use crate::callouts::Fed;
use crate::stream::{RequestProgress, Stream};
use crate::tunnel::{self, Writer};

/// The body of one request, of which each try gets its own reading.
pub(super) enum RequestSource {
    /// There is none.
    Empty,
    /// A filter has read it whole or replaced it.
    Whole(Bytes),
    /// It arrives while it is sent.
    Streamed(Rc<Source>),
    /// What follows is of another protocol.
    Tunnel(Tunnel),
}

/// The way into a tunnel that is being opened.
#[derive(Default)]
pub(super) struct Tunnel {
    /// Of the last try.
    writer: RefCell<Option<Writer>>,
    /// What the client wants to speak, where it did not say CONNECT.
    pub(super) wanted: Option<HeaderValue>,
}

impl Tunnel {
    /// The way in, given once to a try that was answered.
    pub(super) fn writer(&self) -> Option<Writer> {
        self.writer.take()
    }
}

/// A body that arrives.
pub(super) struct Source {
    progress: Rc<RequestProgress>,
    /// The size, where it is announced.
    size: SizeHint,
    state: RefCell<State>,
}

struct State {
    incoming: Origin,
    /// Whether all of it was read.
    over: bool,
    /// What has been read, in order, as long as it may be needed again.
    kept: Vec<Part>,
    bytes: usize,
    /// How much may be kept; zero: nothing is.
    limit: usize,
    /// Whether `kept` is all that has been read.
    whole: bool,
    /// The reading that is the current one.
    reading: u32,
    /// Told when all of it is there.
    sinks: Vec<Sink>,
}

/// Where a body comes from.
enum Origin {
    /// The client.
    Client(Incoming),
    /// A filter, which reads what the client sends.
    Filter(BoxedBody),
}

type Sink = Box<dyn FnOnce(Option<Bytes>)>;

#[derive(Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl From<Part> for Frame<Bytes> {
    fn from(part: Part) -> Self {
        match part {
            Part::Data(data) => Self::data(data),
            Part::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

impl RequestSource {
    /// The body of a request; `keep`: it may be sent again, if it is not longer than `limit`.
    pub(super) fn new(keep: bool, limit: usize, stream: &mut Stream) -> Self {
        if let Some(io) = &mut stream.cx.opened {
            let body = std::mem::take(&mut io.request);
            return Self::filtered(keep, limit, body, stream);
        }
        let incoming = stream.incoming.take().filter(|incoming| !incoming.is_end_stream());
        let Some(incoming) = incoming else { return Self::Empty };
        let progress = stream.new_progress();
        Self::streamed(keep, limit, Origin::Client(incoming), progress)
    }

    /// The body of a request for a tunnel: none, and then whatever the client sends.
    pub(super) fn tunnel(stream: &mut Stream) -> Self {
        let has_body = stream.incoming.as_ref().is_some_and(|incoming| !incoming.is_end_stream());
        if has_body {
            return Self::new(false, 0, stream);
        }
        let wanted = stream.head.headers.get(UPGRADE).cloned();
        Self::Tunnel(Tunnel { wanted, ..Tunnel::default() })
    }

    /// The body that filters leave.
    fn filtered(keep: bool, limit: usize, body: MessageBody, stream: &mut Stream) -> Self {
        match body.whole() {
            Some(content) if content.is_empty() => return Self::Empty,
            Some(content) => return Self::Whole(content),
            None => {}
        }
        let over = || Rc::new(RequestProgress::over());
        let progress = Rc::clone(stream.progress.get_or_insert_with(over));
        Self::streamed(keep, limit, Origin::Filter(body.into_body()), progress)
    }

    fn streamed(keep: bool, limit: usize, incoming: Origin, progress: Rc<RequestProgress>) -> Self {
        let size = incoming.size_hint();
        let state = State {
            incoming,
            over: false,
            kept: Vec::new(),
            bytes: 0,
            limit: if keep { limit } else { 0 },
            whole: keep,
            reading: 0,
            sinks: Vec::new(),
        };
        Self::Streamed(Rc::new(Source { progress, size, state: RefCell::new(state) }))
    }

    /// The body for the next try; earlier ones end.
    pub(super) fn read(&self) -> RequestBody {
        let source = match self {
            Self::Empty => return RequestBody::Empty,
            Self::Whole(content) => return RequestBody::Full(content.clone()),
            Self::Tunnel(tunnel) => {
                let (writer, body) = tunnel::pipe();
                *tunnel.writer.borrow_mut() = Some(writer);
                return RequestBody::Tunnel(Box::pin(Fed(Box::pin(body))));
            }
            Self::Streamed(source) => source,
        };
        let mut state = source.state.borrow_mut();
        state.reading += 1;
        let reading = state.reading;
        RequestBody::Boxed(Box::pin(Reading {
            source: Rc::clone(source),
            reading,
            next: 0,
            given: 0,
        }))
    }

    /// Whether the body can be sent once more from its beginning.
    pub(super) fn can_repeat(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) | Self::Tunnel(_) => true,
            Self::Streamed(source) => source.state.borrow().whole,
        }
    }

    /// The whole body, if it has arrived and was kept.
    pub(super) fn whole(&self) -> Option<Bytes> {
        match self {
            Self::Empty => Some(Bytes::new()),
            Self::Whole(content) => Some(content.clone()),
            Self::Tunnel(_) => None,
            Self::Streamed(source) => {
                let state = source.state.borrow();
                (state.over && state.whole).then(|| state.content())
            }
        }
    }

    /// Calls `sink` with the whole body once it is there; with `None` if it is longer than `limit`.
    pub(super) fn collect(&self, limit: usize, sink: Sink) {
        match self {
            Self::Empty => sink(Some(Bytes::new())),
            Self::Tunnel(_) => sink(None),
            Self::Whole(content) => sink((content.len() <= limit).then(|| content.clone())),
            Self::Streamed(source) => {
                let mut state = source.state.borrow_mut();
                state.limit = state.limit.max(limit);
                state.whole = true;
                state.sinks.push(sink);
            }
        }
    }
}

impl Source {
    /// The next frame from downstream.
    fn poll_fresh(
        &self,
        cx: &mut Context<'_>,
        state: &mut State,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        let frame = match &mut state.incoming {
            Origin::Client(incoming) => {
                let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
                self.progress.passed(frame.as_ref());
                if frame.is_none() || incoming.is_end_stream() {
                    self.progress.end();
                }
                frame
            }
            // What it reads counts itself.
            Origin::Filter(body) => {
                let frame = ready!(body.as_mut().poll_frame(cx));
                frame.map(|frame| frame.map_err(|error| self.refused(error)))
            }
        };
        match &frame {
            Some(Ok(frame)) => state.keep(frame),
            Some(Err(_)) => state.give_up(),
            None => {}
        }
        if frame.is_none() || state.incoming.is_end_stream() {
            state.over = true;
            state.complete();
        }
        Poll::Ready(frame)
    }

    /// Keeps what a filter that ends the body says to the client.
    fn refused(&self, error: BodyError) -> CodecError {
        if let BodyError::Refused(reply) = error {
            *self.progress.refusal.borrow_mut() = Some(reply);
        }
        CodecError::Body
    }
}

impl Origin {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(incoming) => incoming.is_end_stream(),
            Self::Filter(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(incoming) => incoming.size_hint(),
            Self::Filter(body) => body.size_hint(),
        }
    }
}

impl State {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if !self.whole {
            return;
        }
        let part = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Part::Data(data.clone()),
            (None, Some(trailers)) => Part::Trailers(trailers.clone()),
            (None, None) => return,
        };
        if let Part::Data(data) = &part {
            self.bytes += data.len();
        }
        if self.bytes > self.limit {
            self.give_up();
        } else {
            self.kept.push(part);
        }
    }

    fn give_up(&mut self) {
        self.whole = false;
        self.kept.clear();
        self.sinks.drain(..).for_each(|sink| sink(None));
    }

    /// What was kept, trailers left out.
    fn content(&self) -> Bytes {
        let mut all = Vec::with_capacity(self.bytes);
        for part in &self.kept {
            if let Part::Data(data) = part {
                all.extend_from_slice(data);
            }
        }
        Bytes::from(all)
    }

    fn complete(&mut self) {
        if self.sinks.is_empty() {
            return;
        }
        let all = self.content();
        self.sinks.drain(..).for_each(|sink| sink(Some(all.clone())));
    }
}

/// One reading of a body, from its beginning.
struct Reading {
    source: Rc<Source>,
    reading: u32,
    /// How many of the kept parts it has seen.
    next: usize,
    given: u64,
}

impl Body for Reading {
    type Data = Bytes;
    type Error = CodecError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        let this = self.get_mut();
        let source = &*this.source;
        let mut state = source.state.borrow_mut();
        if state.reading != this.reading {
            // Another try has taken the body over.
            return Poll::Ready(Some(Err(CodecError::Body)));
        }
        let kept = state.kept.get(this.next).cloned();
        let frame = match kept {
            Some(part) => {
                this.next += 1;
                Some(Ok(part.into()))
            }
            None if state.over => None,
            None => {
                let frame = ready!(source.poll_fresh(cx, &mut state));
                this.next = state.kept.len();
                frame
            }
        };
        if let Some(Ok(frame)) = &frame {
            this.given += Frame::data_ref(frame).map_or(0, |data: &Bytes| data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.source.state.borrow();
        state.over && self.next >= state.kept.len()
    }

    fn size_hint(&self) -> SizeHint {
        match self.source.size.exact() {
            Some(size) => SizeHint::with_exact(size.saturating_sub(self.given)),
            None => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("size", &self.size).finish_non_exhaustive()
    }
}
