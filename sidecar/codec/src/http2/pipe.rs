//! Sending a body on a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body;

use super::half::SendHalf;
use crate::{CodecError, Reason};

/// Sends a body to its end within the peer's flow control.
#[derive(Debug)]
pub(super) struct Pipe<B> {
    stream: SendHalf,
    body: B,
    /// Data that waits for room, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
}

impl<B> Pipe<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    pub(super) fn new(stream: SendHalf, body: B) -> Self {
        Self { stream, body, waiting: None }
    }

    /// Ready when all is handed over; with [`CodecError::Body`] when the body failed, after the
    /// stream has been reset.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        loop {
            if let Some((data, last)) = &mut self.waiting {
                ready!(self.stream.poll_send(data, *last, cx))?;
                if *last {
                    return Poll::Ready(Ok(()));
                }
                self.waiting = None;
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // Noticed even while there is nothing to send.
                return Poll::Ready(Err(ready!(self.stream.poll_reset(cx))));
            };
            match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    let last = self.body.is_end_stream();
                    if last || !data.is_empty() {
                        self.waiting = Some((data, last));
                    }
                }
                Some(Ok(Err(frame))) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Poll::Ready(self.stream.send_trailers(&trailers));
                    }
                }
                None => self.waiting = Some((Bytes::new(), true)),
                Some(Err(_)) => {
                    self.stream.reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(CodecError::Body));
                }
            }
        }
    }
}
