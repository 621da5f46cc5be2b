//! The server's end of a connection: one future that serves one request after the other.

mod exchange;
mod link;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::UPGRADE;
use http::{Method, Request, Response, Version};
use http_body::Body;
use tokio::sync::oneshot;

use super::decoder::Decoder;
use super::framing::{Fields, Framing};
use super::head::{self, Limits};
use super::refusal::Refusal;
use super::scan::Scan;
use super::spelling::Spelling;
use crate::{CodecError, Incoming, Transport, Upgrading};
use exchange::{After, Asked, Exchange};
use link::Link;
pub use link::RequestBody;

/// How much of what a client still sends is thrown away before its connection is closed, bytes.
const MAX_LINGER: usize = 256 << 10;

/// What is accepted, and how responses are written.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// How long a request's head may be, bytes (`max_request_headers_kb`).
    pub max_head_bytes: usize,
    /// How many header fields a request may have (`max_headers_count`).
    pub max_headers: usize,
    /// How names of headers are written.
    pub spelling: Spelling,
}

/// Who answers requests.
pub trait Service {
    /// The body of a response. Dropped early it has not been sent whole.
    type Body: Body<Data = Bytes> + Unpin;
    /// The response; dropped, nobody waits for it any more.
    type Future: Future<Output = Response<Self::Body>>;

    /// Answers a request.
    fn call(&self, request: Request<Incoming>) -> Self::Future;

    /// Answers what is no request.
    fn refuse(&self, refusal: Refusal) -> Response<Self::Body>;
}

/// Two functions are a service: one that answers, one that refuses.
impl<C, R, F, B> Service for (C, R)
where
    C: Fn(Request<Incoming>) -> F,
    R: Fn(Refusal) -> Response<B>,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    type Body = B;
    type Future = F;

    fn call(&self, request: Request<Incoming>) -> F {
        (self.0)(request)
    }

    fn refuse(&self, refusal: Refusal) -> Response<B> {
        (self.1)(refusal)
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// For a request, of which nothing is there yet.
    Request,
    /// For the rest of a request's head.
    Head,
    /// For request and response to come to their end.
    Exchange,
    /// For the client to close, after everything was said.
    Close,
}

enum State<S: Service> {
    Waiting,
    Busy(Box<Exchange<S>>),
    Closing { lingers: bool, shut: bool, thrown_away: usize },
    Ended,
}

/// A connection; between requests it holds no buffer.
pub struct ServerConnection<T, S: Service> {
    link: Rc<RefCell<Link<T>>>,
    service: S,
    options: ServerOptions,
    scan: Scan,
    state: State<S>,
    ending: bool,
}

impl<T: Transport + 'static, S: Service> ServerConnection<T, S> {
    /// Serves a transport, of which `seen` was read already.
    pub fn new(io: T, seen: &[u8], service: S, options: ServerOptions) -> Self {
        Self {
            link: Rc::new(RefCell::new(Link::new(io, seen))),
            service,
            options,
            scan: Scan::default(),
            state: State::Waiting,
            ending: false,
        }
    }

    /// What the connection waits for, for whoever limits how long.
    pub fn waits(&self) -> Waits {
        match &self.state {
            State::Waiting if self.scan.has_begun() => Waits::Head,
            State::Waiting => Waits::Request,
            State::Busy(_) => Waits::Exchange,
            State::Closing { .. } | State::Ended => Waits::Close,
        }
    }

    /// Ends the connection after the request that is served, or at once if there is none.
    pub fn shut_down(&mut self) {
        self.ending = true;
    }

    /// Gives up waiting for the rest of a head.
    pub fn refuse(&mut self, refusal: Refusal) {
        if matches!(self.state, State::Waiting) {
            let answer = self.service.refuse(refusal);
            self.link.borrow_mut().failed = true;
            let exchange = Exchange::refusal(answer, self.options.spelling, &self.link);
            self.state = State::Busy(exchange);
        }
    }

    /// Goes on; ready when the connection has ended.
    ///
    /// # Errors
    /// It did not end between two messages.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        loop {
            self.state = match &mut self.state {
                State::Waiting => match ready!(self.poll_request(cx)) {
                    Ok(true) => continue,
                    Ok(false) => State::Closing { lingers: false, shut: false, thrown_away: 0 },
                    Err(error) => return Poll::Ready(Err(error)),
                },
                State::Busy(exchange) => match ready!(exchange.poll(&self.link, self.ending, cx)) {
                    Ok(After::Next) => self.next(),
                    Ok(After::Close) => self.close(),
                    Ok(After::Upgraded) => State::Ended,
                    Err(error) => {
                        self.state = State::Ended;
                        return Poll::Ready(Err(error));
                    }
                },
                State::Closing { lingers, shut, thrown_away } => {
                    ready!(poll_close(&self.link, *lingers, shut, thrown_away, cx));
                    State::Ended
                }
                State::Ended => return Poll::Ready(Ok(())),
            };
        }
    }

    fn next(&self) -> State<S> {
        self.link.borrow_mut().buffer.release();
        State::Waiting
    }

    fn close(&self) -> State<S> {
        let link = self.link.borrow();
        let lingers = link.failed || !link.decoder.is_done() || !link.buffer.is_empty();
        State::Closing { lingers, shut: false, thrown_away: 0 }
    }

    /// Waits for a request and begins to serve it; false: the client has left between two.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, CodecError>> {
        loop {
            let mut link = self.link.borrow_mut();
            if !link.buffer.is_empty() {
                let limits = Limits {
                    bytes: self.options.max_head_bytes,
                    fields: self.options.max_headers,
                    spelling: self.options.spelling == Spelling::Preserved,
                };
                if !self.scan.has_line() && skip_empty_lines(&mut link) {
                    self.scan = Scan::default();
                }
                let mut request = Request::new(Incoming::Empty);
                let bytes = link.buffer.bytes();
                let found = head::request(bytes, &mut self.scan, limits, &mut request);
                drop(link);
                match found {
                    Ok(Some(fields)) => {
                        self.begin(request, &fields);
                        return Poll::Ready(Ok(true));
                    }
                    Ok(None) => {}
                    Err(refusal) => {
                        self.refuse(refusal);
                        return Poll::Ready(Ok(true));
                    }
                }
                link = self.link.borrow_mut();
            }
            let link = &mut *link;
            match link.buffer.poll_fill(&mut link.io, cx, 0) {
                Poll::Ready(Ok(0)) if link.buffer.is_empty() => return Poll::Ready(Ok(false)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(CodecError::Closed)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending if self.ending && link.buffer.is_empty() => {
                    return Poll::Ready(Ok(false));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Begins to serve a request.
    fn begin(&mut self, mut request: Request<Incoming>, fields: &Fields) {
        let framing = match fields.of_request(request.version()) {
            Ok(framing) => framing,
            Err(refusal) => return self.refuse(refusal),
        };
        let mut asked = Asked::new(request.method(), request.version(), fields);
        let continues = fields.expects_continue && !asked.old;
        let generation = self.link.borrow_mut().begin(Decoder::new(framing), continues);
        let upgrading = wants_upgrade(&request, fields).then(|| {
            let (stream, promise) = oneshot::channel();
            asked.upgrade = Some(stream);
            Upgrading::promised(promise)
        });
        if framing != Framing::None || upgrading.is_some() {
            let body = RequestBody::new(&self.link, generation, upgrading);
            *request.body_mut() = Incoming::Http1(body);
        }
        let answer = || self.service.call(request);
        self.state = State::Busy(Exchange::new(asked, self.options.spelling, answer));
    }
}

/// Whether a request asks for another protocol on its connection.
fn wants_upgrade<B>(request: &Request<B>, fields: &Fields) -> bool {
    request.method() == Method::CONNECT
        || (fields.upgrade
            && request.version() == Version::HTTP_11
            && request.headers().contains_key(UPGRADE))
}

/// Passes over empty lines before a request, such as careless clients send behind a body; whether
/// there were any.
fn skip_empty_lines<T: Transport>(link: &mut Link<T>) -> bool {
    let bytes = link.buffer.bytes();
    let mut found = false;
    while bytes.starts_with(b"\r\n") {
        bytes.advance(2);
        found = true;
    }
    if found {
        link.buffer.release();
    }
    found
}

/// Says that nothing more is sent. A client that is still sending gets time to read what it was
/// told: closed with unread bytes, the connection would be reset and the response lost.
fn poll_close<T: Transport>(
    link: &RefCell<Link<T>>,
    lingers: bool,
    shut: &mut bool,
    thrown_away: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let link = &mut *link.borrow_mut();
    if !*shut {
        *shut = ready!(Pin::new(&mut link.io).poll_shutdown(cx)).is_ok();
        if !*shut || !lingers {
            return Poll::Ready(());
        }
    }
    while *thrown_away < MAX_LINGER {
        link.buffer.bytes().clear();
        match ready!(link.buffer.poll_fill(&mut link.io, cx, 0)) {
            Ok(0) | Err(_) => break,
            Ok(count) => *thrown_away += count,
        }
    }
    Poll::Ready(())
}
