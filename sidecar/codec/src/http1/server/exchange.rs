//! One request and its response on a connection.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::response::Parts as ResponseParts;
use http::{Method, Response, StatusCode, Version};
use http_body::Body;
use tokio::sync::oneshot;

use super::super::buffers;
use super::super::encoder::Encoder;
use super::super::framing::{Fields, Framing, announced_length, has_no_body, lists};
use super::super::spelling::Spelling;
use super::super::write_head::{self, Connection};
use super::super::writer::Writer;
use super::Service;
use super::link::{CONTINUE, Link, Tunnel};
use crate::{CodecError, Transport, Upgraded};

/// What matters of a request once it is being answered.
#[derive(Debug)]
pub(super) struct Asked {
    /// `HEAD`: the response has no body.
    pub(super) head: bool,
    /// `CONNECT`: a good response ends HTTP.
    pub(super) connect: bool,
    /// HTTP/1.0
    pub(super) old: bool,
    /// The client keeps the connection.
    pub(super) keep_alive: bool,
    /// The client understands trailers.
    pub(super) trailers: bool,
    /// Who waits for the raw stream.
    pub(super) upgrade: Option<oneshot::Sender<Upgraded>>,
}

impl Asked {
    pub(super) fn new(method: &Method, version: Version, fields: &Fields) -> Self {
        let old = version == Version::HTTP_10;
        Self {
            head: *method == Method::HEAD,
            connect: *method == Method::CONNECT,
            old,
            keep_alive: !fields.close && (!old || fields.keep_alive),
            trailers: fields.trailers,
            upgrade: None,
        }
    }

    /// A request that was not understood.
    pub(super) fn nothing() -> Self {
        Self {
            head: false,
            connect: false,
            old: false,
            keep_alive: false,
            trailers: false,
            upgrade: None,
        }
    }
}

/// What becomes of the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It serves the next request.
    Next,
    /// It ends; the client may still be sending.
    Close,
    /// It is no longer HTTP's.
    Upgraded,
}

enum Step<S: Service> {
    Handling(Pin<Box<S::Future>>),
    Answering(S::Body),
    Ended,
}

/// See the module; lives on the heap while the request is in flight.
pub(super) struct Exchange<S: Service> {
    step: Step<S>,
    asked: Asked,
    writer: Writer,
    encoder: Encoder,
    spelling: Spelling,
    keep: bool,
    switching: bool,
    /// The response broke off.
    broken: bool,
}

impl<S: Service> Exchange<S> {
    pub(super) fn new(
        asked: Asked,
        spelling: Spelling,
        answer: impl FnOnce() -> S::Future,
    ) -> Box<Self> {
        // The future is large: made where it stays, it is not copied there.
        let place = Box::new_uninit();
        let step = Step::Handling(Box::into_pin(Box::write(place, answer())));
        Box::new(Self::at(step, asked, spelling))
    }

    /// An answer that is there already; the connection ends with it.
    pub(super) fn refusal<T: Transport>(
        answer: Response<S::Body>,
        spelling: Spelling,
        link: &RefCell<Link<T>>,
    ) -> Box<Self> {
        let mut exchange = Box::new(Self::at(Step::Ended, Asked::nothing(), spelling));
        exchange.answer(answer, link, true);
        exchange
    }

    fn at(step: Step<S>, asked: Asked, spelling: Spelling) -> Self {
        Self {
            step,
            asked,
            writer: Writer::default(),
            encoder: Encoder::Done,
            spelling,
            keep: false,
            switching: false,
            broken: false,
        }
    }

    /// Goes on with request and response; ready when the response was sent.
    pub(super) fn poll<T: Transport + 'static>(
        &mut self,
        link: &Rc<RefCell<Link<T>>>,
        ending: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<After, CodecError>> {
        if let Step::Handling(answer) = &mut self.step {
            match answer.as_mut().poll(cx) {
                // Who breaks off in the middle of a request is owed no response.
                Poll::Ready(_) if link.borrow().cut_off => {
                    return Poll::Ready(Err(CodecError::Closed));
                }
                Poll::Ready(answer) => self.answer(answer, link, ending),
                Poll::Pending => {
                    let gone = link.borrow_mut().poll_gone(cx);
                    return gone.map(|()| Err(CodecError::Closed));
                }
            }
        }
        loop {
            // The link stays free: what is sent may depend on what is still read.
            let waiting = self.fill(cx);
            let mut link_now = link.borrow_mut();
            ready!(self.writer.poll_send(&mut link_now.io, cx))?;
            if self.broken {
                return Poll::Ready(Err(CodecError::Body));
            }
            if matches!(self.step, Step::Ended) {
                return Poll::Ready(Ok(self.end(link, &mut link_now)));
            }
            if waiting {
                return link_now.poll_gone(cx).map(|()| Err(CodecError::Closed));
            }
        }
    }

    /// The response's head is there.
    fn answer<T: Transport>(
        &mut self,
        answer: Response<S::Body>,
        link: &RefCell<Link<T>>,
        ending: bool,
    ) {
        let (head, body) = answer.into_parts();
        let framing = self.framing(&head, &body);
        // Asked while the link is free: the body may be that of the request.
        let body_ended = body.is_end_stream();
        let mut link = link.borrow_mut();
        if link.unwanted {
            link.discard();
        }
        let says_close = head.headers.get_all(CONNECTION).iter().any(|value| lists(value, "close"));
        let unread = link.unwanted && !link.decoder.is_done();
        let may_stay = self.asked.keep_alive && framing != Framing::UntilEnd;
        self.keep = may_stay && !says_close && !ending && !unread && !link.failed;
        let connection = match (self.keep, self.asked.old) {
            _ if self.switching => Connection::Unsaid,
            (true, true) => Connection::KeepAlive,
            (false, _) if !says_close => Connection::Close,
            _ => Connection::Unsaid,
        };
        let continue_left = std::mem::take(&mut link.continue_left);
        let announced = self.announced(&head, framing);
        let out = self.writer.gather();
        out.extend_from_slice(&CONTINUE[CONTINUE.len() - usize::from(continue_left)..]);
        write_head::response(out, &head, announced, connection, self.spelling);
        self.encoder = Encoder::new(framing, &head.headers, self.asked.trailers);
        let without = framing == Framing::None || body_ended && self.encoder.is_done();
        self.step = if without { Step::Ended } else { Step::Answering(body) };
        buffers::keep_headers(head.headers);
    }

    /// How the head says that the body is framed: to HEAD as to GET, as far as is known.
    fn announced(&self, head: &ResponseParts, framing: Framing) -> Framing {
        let unknown = self.asked.head
            && !self.asked.old
            && !self.switching
            && !has_no_body(head.status)
            && !head.headers.contains_key(CONTENT_LENGTH);
        if unknown { Framing::Chunked } else { framing }
    }

    /// How the response's body is framed; notes whether the connection leaves HTTP.
    fn framing(&mut self, head: &ResponseParts, body: &S::Body) -> Framing {
        let status = head.status;
        let switching =
            status == StatusCode::SWITCHING_PROTOCOLS || self.asked.connect && status.is_success();
        self.switching = switching && self.asked.upgrade.is_some();
        if switching || self.asked.head || has_no_body(status) {
            return Framing::None;
        }
        let length = announced_length(&head.headers);
        let length = length.or_else(|| body.is_end_stream().then_some(0));
        match length.or_else(|| body.size_hint().exact()) {
            Some(length) => Framing::Length(length),
            None if self.asked.old => Framing::UntilEnd,
            None => Framing::Chunked,
        }
    }

    /// Takes frames of the body until there is enough to send; whether the body has to be waited
    /// for.
    fn fill(&mut self, cx: &mut Context<'_>) -> bool {
        let Step::Answering(body) = &mut self.step else { return false };
        while self.writer.has_room() {
            if !body.is_end_stream() {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Some(Ok(frame))) => {
                        if self.encoder.frame(frame, self.spelling, &mut self.writer).is_err() {
                            self.broken = true;
                            break;
                        }
                        continue;
                    }
                    Poll::Ready(Some(Err(_))) => {
                        self.broken = true;
                        break;
                    }
                    Poll::Ready(None) => {}
                }
            }
            self.broken = self.encoder.end(None, self.spelling, &mut self.writer).is_err();
            self.step = Step::Ended;
            break;
        }
        false
    }

    /// The response was sent whole.
    fn end<T: Transport + 'static>(
        &mut self,
        link: &Rc<RefCell<Link<T>>>,
        link_now: &mut Link<T>,
    ) -> After {
        if self.switching
            && let Some(upgrade) = self.asked.upgrade.take()
        {
            // Nobody waits for it: then it ends here.
            let _ = upgrade.send(Upgraded::new(Tunnel(Rc::clone(link))));
            return After::Upgraded;
        }
        link_now.discard();
        if self.keep && link_now.decoder.is_done() && !link_now.failed {
            After::Next
        } else {
            After::Close
        }
    }
}
