//! Bodies as filters see them: read, replaced or transformed.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use crate::LocalReply;

/// A body of any origin: frames of data, then at most one of trailers.
pub type BoxedBody = Pin<Box<dyn Body<Data = Bytes, Error = BodyError>>>;

/// Why a body does not come to its end.
#[derive(Debug, Error)]
pub enum BodyError {
    /// Whoever sends it has gone, or what was sent makes no sense.
    #[error("the body broke off")]
    Broken,
    /// A filter ends the exchange: the client gets this reply if its response has not begun yet,
    /// else a reset.
    #[error("a filter ends the exchange: {}", .0.details)]
    Refused(Box<LocalReply>),
}

/// Why a body could not be read whole.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It is longer than the filter wants; what was read is lost.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    /// It has no end.
    #[error(transparent)]
    Body(#[from] BodyError),
}

impl ReadError {
    /// What the client of a request with such a body is told: 413 if it is too long, else 400.
    #[must_use]
    pub fn into_reply(self) -> LocalReply {
        match self {
            Self::TooLong(_) => LocalReply::text(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Payload Too Large",
                "request_payload_too_large",
            ),
            Self::Body(BodyError::Refused(reply)) => *reply,
            Self::Body(BodyError::Broken) => {
                LocalReply::text(StatusCode::BAD_REQUEST, "Bad Request", "request_body_broken")
            }
        }
    }
}

/// What a filter did to a body; says how the head's `content-length` has to be mended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyChange {
    /// Nothing, or it was only read.
    #[default]
    None,
    /// It was replaced by one that is known whole.
    Replaced,
    /// It is transformed while it passes: its length is unknown.
    Transformed,
}

/// The body of a request or a response on its way through the filters.
///
/// What is read stays in it and goes on to the next filter and to the peer.
#[derive(Default)]
pub struct MessageBody {
    /// What has been read, in order.
    parts: Vec<Bytes>,
    length: usize,
    trailers: Option<HeaderMap>,
    /// What is still to come.
    rest: Option<BoxedBody>,
    change: BodyChange,
    /// Whether the message may not have a body, whatever filters say.
    bare: bool,
}

impl MessageBody {
    /// A body that arrives.
    #[must_use]
    pub fn new(body: BoxedBody) -> Self {
        Self { rest: Some(body), ..Self::default() }
    }

    /// A body that is known whole.
    #[must_use]
    pub fn full(content: Bytes) -> Self {
        let mut body = Self::default();
        body.push(content);
        body
    }

    /// The body of a message that must not have one (the response to HEAD, 204, 304): it can be
    /// replaced, which mends the head, but it is neither sent nor transformed.
    #[must_use]
    pub fn bare() -> Self {
        Self { bare: true, ..Self::default() }
    }

    /// Whether there is nothing in it and nothing to come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.trailers.is_none() && self.rest.is_none()
    }

    /// Whether the message must not have a body; see [`Self::bare`].
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.bare
    }

    /// The length of what is there and to come, where it is known, bytes.
    #[must_use]
    pub fn known_length(&self) -> Option<u64> {
        let rest = self.rest.as_ref().map_or(Some(0), |rest| rest.size_hint().exact())?;
        Some(rest + self.length as u64)
    }

    /// Reads the body to its end and gives its content; it stays in place, its trailers too.
    ///
    /// # Errors
    /// It is longer than `limit` bytes, or breaks off.
    pub async fn read(&mut self, limit: usize) -> Result<Bytes, ReadError> {
        if self.known_length().is_some_and(|length| length > limit as u64) {
            return Err(ReadError::TooLong(limit));
        }
        while self.rest.is_some() && self.length <= limit {
            self.advance().await?;
        }
        if self.length > limit {
            return Err(ReadError::TooLong(limit));
        }
        Ok(self.content())
    }

    /// Reads at least `limit` bytes, or all where there are fewer; gives what has been read and
    /// whether it is all. The rest follows as it comes.
    ///
    /// # Errors
    /// It breaks off.
    pub async fn peek(&mut self, limit: usize) -> Result<(Bytes, bool), BodyError> {
        while self.rest.is_some() && self.length < limit {
            self.advance().await?;
        }
        Ok((self.content(), self.rest.is_none()))
    }

    /// The trailers, once the body has been read to its end.
    #[must_use]
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The trailers, to change; only for a body that has been read to its end or replaced.
    pub fn trailers_mut(&mut self) -> &mut Option<HeaderMap> {
        &mut self.trailers
    }

    /// Puts `content` in the place of the body; what was not read yet is dropped, trailers that
    /// were read stay. `content-length` is mended.
    pub fn replace(&mut self, content: Bytes) {
        self.rest = None;
        self.parts.clear();
        self.length = 0;
        self.push(content);
        self.change = BodyChange::Replaced;
    }

    /// Lets the body pass through `with`, which gets what is to come and gives what goes on. An
    /// error that it yields ends the exchange. `content-length` is removed. Does nothing to a
    /// message that must not have a body.
    pub fn transform(&mut self, with: impl FnOnce(BoxedBody) -> BoxedBody) {
        if self.bare {
            return;
        }
        let before = std::mem::take(self);
        self.rest = Some(with(before.into_body()));
        self.change = BodyChange::Transformed;
    }

    /// As [`Self::transform`], for what only watches: frames pass as they are, so that the head
    /// stays as it is.
    pub fn watch(&mut self, with: impl FnOnce(BoxedBody) -> BoxedBody) {
        let change = self.change;
        self.transform(with);
        if !self.bare {
            self.change = change;
        }
    }

    /// What has to be mended in the head.
    #[must_use]
    pub fn change(&self) -> BodyChange {
        self.change
    }

    /// The content, if it is all there and has no trailers.
    #[must_use]
    pub fn whole(&self) -> Option<Bytes> {
        (self.rest.is_none() && self.trailers.is_none()).then(|| self.content())
    }

    /// The body as one stream of frames: what has been read, then the rest.
    #[must_use]
    pub fn into_body(self) -> BoxedBody {
        match self.rest {
            Some(rest) if self.parts.is_empty() => rest,
            rest => {
                let length = self.length as u64;
                let parts = self.parts.into_iter();
                Box::pin(Resumed { parts, length, rest, trailers: self.trailers })
            }
        }
    }

    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.length += part.len();
            self.parts.push(part);
        }
    }

    /// Reads one more frame.
    async fn advance(&mut self) -> Result<(), BodyError> {
        let Some(rest) = &mut self.rest else { return Ok(()) };
        let frame = poll_fn(|cx| rest.as_mut().poll_frame(cx)).await.transpose()?;
        let over = frame.is_none() || rest.is_end_stream();
        if let Some(frame) = frame {
            match frame.into_data() {
                Ok(data) => self.push(data),
                Err(other) => self.trailers = other.into_trailers().ok().or(self.trailers.take()),
            }
        }
        if over {
            self.rest = None;
        }
        Ok(())
    }

    fn content(&self) -> Bytes {
        match self.parts.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut all = BytesMut::with_capacity(self.length);
                many.iter().for_each(|part| all.extend_from_slice(part));
                all.freeze()
            }
        }
    }
}

impl fmt::Debug for MessageBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageBody")
            .field("length", &self.length)
            .field("over", &self.rest.is_none())
            .finish_non_exhaustive()
    }
}

/// What was read, and then the rest.
struct Resumed {
    parts: std::vec::IntoIter<Bytes>,
    /// Of the parts that are left.
    length: u64,
    rest: Option<BoxedBody>,
    trailers: Option<HeaderMap>,
}

impl Body for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(part) = self.parts.next() {
            self.length -= part.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        if let Some(rest) = &mut self.rest {
            return rest.as_mut().poll_frame(cx);
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.length == 0
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or(Some(0), |rest| rest.size_hint().exact());
        rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + self.length))
    }
}

#[cfg(test)]
mod tests;
