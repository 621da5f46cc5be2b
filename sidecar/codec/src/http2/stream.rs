//! What is known about one stream (RFC 9113, 5).

use std::collections::VecDeque;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{HeaderMap, Response};

use crate::CodecError;

/// One stream, until both directions have ended and nobody holds either end.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// How many hold an end of it: who sends, and who receives.
    pub(super) holders: u8,
    /// Whether frames may still come or go.
    pub(super) live: bool,
    /// The peer has ended its direction.
    pub(super) recv_ended: bool,
    /// We have ended ours.
    pub(super) send_ended: bool,
    /// Nobody wants what still arrives.
    pub(super) discards: bool,
    /// The response to a HEAD request has no body, whatever it says.
    pub(super) answers_head: bool,
    /// The final response's head has arrived.
    pub(super) answered: bool,
    pub(super) head: Option<Response<()>>,
    pub(super) data: VecDeque<Bytes>,
    pub(super) trailers: Option<Box<HeaderMap>>,
    /// How much is still to come by `content-length`.
    pub(super) expected: Option<u64>,
    /// How much the peer may still send.
    pub(super) recv_window: i64,
    /// How much was read of which the peer was not told.
    pub(super) unreleased: u32,
    pub(super) send_window: i64,
    pub(super) receiver: Option<Waker>,
    pub(super) sender: Option<Waker>,
    /// Whether it waits for the connection, and not for its own window.
    pub(super) queued: bool,
    pub(super) error: Option<CodecError>,
}

impl Stream {
    pub(super) fn new(id: u32, holders: u8, recv_window: i64, send_window: i64) -> Self {
        Self { id, holders, live: true, recv_window, send_window, ..Self::default() }
    }

    pub(super) fn wake_receiver(&mut self) {
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }

    pub(super) fn wake_sender(&mut self) {
        if let Some(waker) = self.sender.take() {
            waker.wake();
        }
    }

    /// The stream is over before its end.
    pub(super) fn fail(&mut self, error: CodecError) {
        self.live = false;
        self.error.get_or_insert(error);
        self.wake_receiver();
        self.wake_sender();
    }

    /// What arrives counts against `content-length`; whether that is kept.
    pub(super) fn expect_less(&mut self, length: usize) -> bool {
        match &mut self.expected {
            None => true,
            Some(left) => match left.checked_sub(length as u64) {
                Some(less) => {
                    *left = less;
                    true
                }
                None => false,
            },
        }
    }
}

/// Keeps who is to be woken.
pub(super) fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}
