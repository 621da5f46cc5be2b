//! Sending a body on a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

use crate::CodecError;

/// The longest last piece of a body that is handed over without waiting for the peer's window.
const SMALL: usize = 16 << 10;

/// Sends a body to its end within the peer's flow control.
#[derive(Debug)]
pub(super) struct Pipe<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// Data that waits for room.
    waiting: Option<(Bytes, bool)>,
    /// Whether room was asked for that may not be used.
    reserved: bool,
}

impl<B> Pipe<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    pub(super) fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Self { stream, body, waiting: None, reserved: false }
    }

    /// Ready when all is handed over; with [`CodecError::Body`] when the body failed, after the
    /// stream has been reset.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        loop {
            if self.waiting.is_some() {
                ready!(self.poll_room(cx))?;
                if let Some((data, last)) = self.waiting.take() {
                    self.stream.send_data(data, last)?;
                    if last {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // Noticed even while there is nothing to send.
                let reason = ready!(self.stream.poll_reset(cx))?;
                return Poll::Ready(Err(CodecError::Reset(reason)));
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let last = self.body.is_end_stream();
                        if data.is_empty() || last && data.len() <= SMALL {
                            self.stream.send_data(data, last)?;
                            if last {
                                return Poll::Ready(Ok(()));
                            }
                        } else {
                            // Asks for little: what is asked for in advance is kept from others.
                            self.stream.reserve_capacity(1);
                            self.reserved = true;
                            self.waiting = Some((data, last));
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            if self.reserved {
                                self.stream.reserve_capacity(0);
                            }
                            self.stream.send_trailers(trailers)?;
                            return Poll::Ready(Ok(()));
                        }
                    }
                },
                None => {
                    return Poll::Ready(
                        self.stream.send_data(Bytes::new(), true).map_err(Into::into),
                    );
                }
                Some(Err(_)) => {
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(CodecError::Body));
                }
            }
        }
    }

    /// Ready when the peer's window has room.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CodecError>> {
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(capacity) => _ = capacity?,
                None => {
                    let reason = ready!(self.stream.poll_reset(cx))?;
                    return Poll::Ready(Err(CodecError::Reset(reason)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
