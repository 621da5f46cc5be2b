//! Bodies in the hands of filters: opened for the first filter that uses them, closed behind the
//! last.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Body, Frame, SizeHint};
use weft_codec::{CodecError, Incoming};
use weft_filter_api::{BodyChange, BodyError, MessageBody, StreamIo};
use weft_upstream::UpstreamBody;

use crate::manager::{Answer, AnswerBody};
use crate::stream::{RequestProgress, Stream};

/// Gives the filters the request's body and the way to other clusters.
pub(crate) fn open_request(stream: &mut Stream) {
    if stream.cx.opened.is_some() {
        return;
    }
    let incoming = stream.incoming.take().filter(|incoming| !incoming.is_end_stream());
    let body = incoming.map_or_else(MessageBody::default, |incoming| {
        let progress = stream.new_progress();
        MessageBody::new(Box::pin(Arriving { incoming, progress }))
    });
    let callouts = Rc::clone(&stream.connection.worker.callouts);
    stream.cx.opened = Some(Box::new(StreamIo::new(body, callouts)));
}

/// Mends the request's head once the filters have seen it.
pub(crate) fn close_request(stream: &mut Stream) {
    let Some(io) = &stream.cx.opened else { return };
    mend(&mut stream.head.headers, &io.request);
    if io.request.known_length().is_some() && io.request.whole().is_some() {
        // A filter may have replaced it without reading it.
        if let Some(progress) = &stream.progress {
            progress.end();
        }
    }
}

/// Gives the filters the response's body; `bodiless`: it answers HEAD.
pub(crate) fn open_response(stream: &mut Stream, answer: &mut Answer, bodiless: bool) {
    open_request(stream);
    let status = answer.head.status;
    let bare = bodiless
        || matches!(answer.body, AnswerBody::Tunnel(_))
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bare {
        stream.cx.io().response = MessageBody::bare();
        return;
    }
    let body = match std::mem::replace(&mut answer.body, AnswerBody::Local(Bytes::new())) {
        AnswerBody::Local(content) => MessageBody::full(content),
        AnswerBody::Upstream(body) => {
            let over = || Rc::new(RequestProgress::over());
            let progress = Rc::clone(stream.progress.get_or_insert_with(over));
            MessageBody::new(Box::pin(Returning { body, progress }))
        }
        AnswerBody::Filtered(body) => MessageBody::new(body),
        AnswerBody::Tunnel(_) => MessageBody::bare(),
    };
    stream.cx.io().response = body;
}

/// Takes the response's body back once the filters have seen it.
pub(crate) fn close_response(stream: &mut Stream, answer: &mut Answer) {
    let body = std::mem::take(&mut stream.cx.io().response);
    if !body.is_bare() || answer.head.status != StatusCode::NO_CONTENT {
        mend(&mut answer.head.headers, &body);
    }
    if body.is_bare() {
        return;
    }
    answer.body = match body.whole() {
        Some(content) => AnswerBody::Local(content),
        None => AnswerBody::Filtered(body.into_body()),
    };
}

/// Lets go of a response that a filter does not let pass.
pub(crate) fn drop_response(stream: &mut Stream) {
    if let Some(io) = &mut stream.cx.opened {
        io.response = MessageBody::default();
    }
}

fn mend(headers: &mut HeaderMap, body: &MessageBody) {
    match (body.change(), body.known_length()) {
        (BodyChange::None, _) => {}
        (BodyChange::Replaced, Some(length)) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        (BodyChange::Replaced, None) | (BodyChange::Transformed, _) => {
            headers.remove(CONTENT_LENGTH);
        }
    }
}

/// A request's body as filters read it.
struct Arriving {
    incoming: Incoming,
    progress: Rc<RequestProgress>,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        this.progress.passed(frame.as_ref());
        if frame.is_none() || this.incoming.is_end_stream() {
            this.progress.end();
        }
        Poll::Ready(frame.map(broken))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// An upstream's body as filters read it.
struct Returning {
    body: UpstreamBody,
    progress: Rc<RequestProgress>,
}

impl Body for Returning {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.progress.frames.set(self.progress.frames.get().wrapping_add(1));
        Poll::Ready(frame.map(broken))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn broken(frame: Result<Frame<Bytes>, CodecError>) -> Result<Frame<Bytes>, BodyError> {
    frame.map_err(|_| BodyError::Broken)
}
