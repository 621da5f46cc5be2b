//! What is known about a connection, and what its streams do to it.
//!
//! Whatever is sent is written into one buffer at once, in the order in which it is said, so that
//! compression needs no second thought and one write takes all of it.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use http::{HeaderMap, Request};

use super::frame::{self, FIRST_WINDOW, flag, kind};
use super::hpack::{Decoder, Encoder};
use super::messages::Block;
use super::stream::{Stream, register};
use crate::{CodecError, Reason};

/// How much may wait to be written before streams have to wait and nothing more is read, bytes.
pub(super) const HIGH_WATER: usize = 64 << 10;
/// How many closed streams are remembered.
const REMEMBERED: usize = 128;
/// How many requests a client may reset early, if they are most of its requests.
const EARLY_RESETS: u32 = 500;

/// What is allowed to the peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    /// Bytes.
    pub(super) stream_window: u32,
    /// Bytes.
    pub(super) connection_window: u32,
    pub(super) streams: u32,
    /// Bytes.
    pub(super) header_list: usize,
    pub(super) connect_protocol: bool,
}

/// What the peer allows (`SETTINGS`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) stream_window: u32,
    pub(super) frame: usize,
    pub(super) streams: u32,
}

/// How far a server has come in ending a connection gracefully (RFC 9113, 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    No,
    /// The client was told; requests that crossed with it are still served.
    Announced,
    /// The last request is known.
    Final,
}

/// A request that has arrived.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) key: u32,
    pub(super) head: Request<()>,
    pub(super) has_body: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    pub(super) is_server: bool,
    pub(super) local: Local,
    pub(super) peer: Peer,
    pub(super) streams: Vec<Stream>,
    free: Vec<u32>,
    /// The live streams.
    pub(super) by_id: HashMap<u32, u32, RandomState>,
    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
    pub(super) out: Vec<u8>,
    /// How much of it has gone out.
    pub(super) written: usize,
    pub(super) send_window: i64,
    pub(super) recv_window: i64,
    unreleased: u32,
    /// The peer knows our settings.
    pub(super) acknowledged: bool,
    pub(super) settings_seen: bool,
    /// The highest stream of the peer.
    pub(super) last_id: u32,
    /// Our next stream.
    pub(super) next_id: u32,
    /// Streams that wait for the connection.
    blocked: VecDeque<u32>,
    pub(super) accepted: VecDeque<Accepted>,
    /// A header block of which more is to come.
    pub(super) block: Option<Block>,
    /// The streams that were closed last, and whether we had reset them.
    closed: VecDeque<(u32, bool)>,
    pub(super) closing: Closing,
    /// The peer takes no more streams.
    pub(super) refused: Option<CodecError>,
    pub(super) pong: bool,
    opened: u32,
    early_resets: u32,
    /// The connection's future, unless it is running.
    pub(super) task: Option<Waker>,
    /// Nobody will send more requests.
    pub(super) abandoned: bool,
}

impl State {
    pub(super) fn new(is_server: bool, local: Local) -> Self {
        let mut state = Self {
            is_server,
            local,
            peer: Peer {
                stream_window: FIRST_WINDOW,
                frame: frame::MAX_PAYLOAD,
                streams: u32::MAX,
            },
            streams: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::default(),
            encoder: Encoder::new(),
            decoder: Decoder::new(),
            out: Vec::new(),
            written: 0,
            send_window: i64::from(FIRST_WINDOW),
            recv_window: i64::from(FIRST_WINDOW),
            unreleased: 0,
            acknowledged: false,
            settings_seen: false,
            last_id: 0,
            next_id: 1,
            blocked: VecDeque::new(),
            accepted: VecDeque::new(),
            block: None,
            closed: VecDeque::new(),
            closing: Closing::No,
            refused: None,
            pong: false,
            opened: 0,
            early_resets: 0,
            task: None,
            abandoned: false,
        };
        state.greet();
        state
    }

    fn greet(&mut self) {
        use frame::setting;
        if !self.is_server {
            self.out.extend_from_slice(frame::PREFACE);
        }
        let Local { stream_window, connection_window, streams, header_list, connect_protocol } =
            self.local;
        let header_list = u32::try_from(header_list).unwrap_or(u32::MAX);
        let mut settings = vec![
            (setting::INITIAL_WINDOW_SIZE, stream_window),
            (setting::MAX_HEADER_LIST_SIZE, header_list),
        ];
        if self.is_server {
            settings.push((setting::MAX_CONCURRENT_STREAMS, streams));
            if connect_protocol {
                settings.push((setting::ENABLE_CONNECT_PROTOCOL, 1));
            }
        } else {
            settings.push((setting::ENABLE_PUSH, 0));
        }
        frame::settings(&mut self.out, &settings);
        if let Some(more) = connection_window.checked_sub(FIRST_WINDOW).filter(|more| *more > 0) {
            frame::window_update(&mut self.out, 0, more);
            self.recv_window += i64::from(more);
        }
    }

    /// Has the connection's future write what waits.
    pub(super) fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    pub(super) fn stream(&mut self, key: u32) -> &mut Stream {
        &mut self.streams[key as usize]
    }

    pub(super) fn find(&self, id: u32) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// A new stream, in the hands of so many.
    pub(super) fn open(&mut self, id: u32, holders: u8) -> u32 {
        let windows = (self.local.stream_window, self.peer.stream_window);
        let stream = Stream::new(id, holders, i64::from(windows.0), i64::from(windows.1));
        let key = match self.free.pop() {
            Some(key) => {
                self.streams[key as usize] = stream;
                key
            }
            None => {
                self.streams.push(stream);
                self.streams.len() as u32 - 1
            }
        };
        self.by_id.insert(id, key);
        self.opened = self.opened.saturating_add(1);
        key
    }

    /// Whether a stream of that number was never opened.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        let ours = (id % 2 == 1) != self.is_server;
        if ours { id >= self.next_id } else { id > self.last_id }
    }

    /// Whether a closed stream is remembered, and if so, whether we had reset it.
    pub(super) fn remembered(&self, id: u32) -> Option<bool> {
        self.closed.iter().rev().find(|closed| closed.0 == id).map(|closed| closed.1)
    }

    pub(super) fn remember(&mut self, id: u32, reset: bool) {
        if self.closed.len() >= REMEMBERED {
            self.closed.pop_front();
        }
        self.closed.push_back((id, reset));
    }

    /// A stream's directions have both ended, or it was reset.
    fn close(&mut self, key: u32, reset: bool) {
        let id = self.stream(key).id;
        self.stream(key).live = false;
        self.by_id.remove(&id);
        self.remember(id, reset);
        if self.by_id.is_empty() && (self.closing != Closing::No || self.abandoned) {
            self.wake();
        }
    }

    /// A direction has ended; if the other one had before, the stream is over.
    pub(super) fn half_ended(&mut self, key: u32) {
        let stream = self.stream(key);
        if stream.live && stream.recv_ended && stream.send_ended {
            self.close(key, false);
        }
    }

    /// Resets a stream that is live.
    pub(super) fn reset(&mut self, key: u32, reason: Reason, error: CodecError) {
        if !self.stream(key).live {
            return;
        }
        let id = self.stream(key).id;
        frame::reset(&mut self.out, id, reason);
        self.close(key, true);
        self.stream(key).fail(error);
        self.wake();
    }

    /// The peer has reset a stream; returns whether it does so too often.
    pub(super) fn was_reset(&mut self, key: u32, reason: Reason) -> bool {
        if self.is_server && !self.stream(key).send_ended {
            self.early_resets += 1;
        }
        self.close(key, false);
        self.stream(key).fail(CodecError::Reset(reason));
        self.early_resets >= EARLY_RESETS && self.early_resets > self.opened / 2
    }

    /// Ends all streams that are left.
    pub(super) fn fail(&mut self, error: &CodecError) {
        self.refused.get_or_insert_with(|| error.clone());
        for (_, key) in self.by_id.drain() {
            self.streams[key as usize].fail(error.clone());
        }
    }

    /// Somebody lets go of a stream.
    pub(super) fn release(&mut self, key: u32) {
        let is_server = self.is_server;
        let stream = self.stream(key);
        stream.holders -= 1;
        if stream.holders > 0 {
            return;
        }
        let answered = is_server && stream.send_ended;
        let reason = if answered { Reason::NO_ERROR } else { Reason::CANCEL };
        self.reset(key, reason, CodecError::Closed);
        self.drop_data(key);
        *self.stream(key) = Stream::default();
        self.free.push(key);
    }

    /// Nobody reads any more; the peer may still send on the connection.
    pub(super) fn discard(&mut self, key: u32) {
        let is_server = self.is_server;
        let stream = self.stream(key);
        stream.discards = true;
        stream.receiver = None;
        if !is_server && !stream.recv_ended {
            self.reset(key, Reason::CANCEL, CodecError::Closed);
        }
        self.drop_data(key);
    }

    fn drop_data(&mut self, key: u32) {
        let data = std::mem::take(&mut self.stream(key).data);
        let length: usize = data.iter().map(Bytes::len).sum();
        self.release_connection(length);
    }

    /// So much was read of a stream.
    pub(super) fn release_data(&mut self, key: u32, length: usize) {
        self.release_connection(length);
        self.release_stream(key, length);
    }

    pub(super) fn release_connection(&mut self, length: usize) {
        self.unreleased += length as u32;
        let window = self.local.connection_window.max(FIRST_WINDOW);
        if self.unreleased >= window / 2 {
            frame::window_update(&mut self.out, 0, self.unreleased);
            self.recv_window += i64::from(std::mem::take(&mut self.unreleased));
            self.wake();
        }
    }

    pub(super) fn release_stream(&mut self, key: u32, length: usize) {
        let half = self.local.stream_window / 2;
        let stream = &mut self.streams[key as usize];
        stream.unreleased += length as u32;
        if stream.live && !stream.recv_ended && stream.unreleased >= half {
            frame::window_update(&mut self.out, stream.id, stream.unreleased);
            stream.recv_window += i64::from(std::mem::take(&mut stream.unreleased));
            self.wake();
        }
    }

    /// Writes a header block of which `fields` writes the fields.
    pub(super) fn write_headers(
        &mut self,
        id: u32,
        last: bool,
        fields: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        let start = self.out.len();
        let end = if last { flag::END_STREAM } else { 0 };
        frame::head(&mut self.out, 0, kind::HEADERS, end | flag::END_HEADERS, id);
        self.encoder.begin(&mut self.out);
        fields(&mut self.encoder, &mut self.out);
        let length = self.out.len() - start - frame::HEAD;
        if length <= self.peer.frame {
            self.out[start..start + 3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        } else {
            let block = self.out.split_off(start + frame::HEAD);
            self.out.truncate(start);
            self.write_in_parts(id, end, &block);
        }
        self.wake();
    }

    fn write_in_parts(&mut self, id: u32, end: u8, block: &[u8]) {
        let (mut kind, mut flags) = (kind::HEADERS, end);
        let mut parts = block.chunks(self.peer.frame).peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                flags |= flag::END_HEADERS;
            }
            frame::head(&mut self.out, part.len(), kind, flags, id);
            self.out.extend_from_slice(part);
            (kind, flags) = (frame::kind::CONTINUATION, 0);
        }
    }

    /// Our direction has ended.
    pub(super) fn end_sending(&mut self, key: u32) {
        self.stream(key).send_ended = true;
        self.half_ended(key);
    }

    pub(super) fn send_trailers(
        &mut self,
        key: u32,
        trailers: &HeaderMap,
    ) -> Result<(), CodecError> {
        if let Some(error) = &self.stream(key).error {
            return Err(error.clone());
        }
        let id = self.stream(key).id;
        self.write_headers(id, true, |encoder, out| {
            for (name, value) in trailers {
                encoder.header(out, name, value);
            }
        });
        self.end_sending(key);
        Ok(())
    }

    /// Sends as much as may be sent; ready when that was all of it.
    pub(super) fn poll_send(
        &mut self,
        key: u32,
        data: &mut Bytes,
        last: bool,
        cx: &Context<'_>,
    ) -> Poll<Result<(), CodecError>> {
        loop {
            let (window, largest) = (self.send_window, self.peer.frame);
            let full = self.out.len() - self.written >= HIGH_WATER;
            let stream = &mut self.streams[key as usize];
            if let Some(error) = &stream.error {
                return Poll::Ready(Err(error.clone()));
            }
            let room = stream.send_window.min(window).max(0);
            if !data.is_empty() && (full || room == 0) {
                register(&mut stream.sender, cx);
                if stream.send_window > 0 && !std::mem::replace(&mut stream.queued, true) {
                    self.blocked.push_back(key);
                }
                // A part may have been written before.
                self.wake();
                return Poll::Pending;
            }
            let length = data.len().min(room as usize).min(largest);
            let ends = last && length == data.len();
            let flags = if ends { flag::END_STREAM } else { 0 };
            stream.send_window -= length as i64;
            self.send_window -= length as i64;
            frame::head(&mut self.out, length, kind::DATA, flags, stream.id);
            self.out.extend_from_slice(&data[..length]);
            data.advance(length);
            if data.is_empty() {
                if ends {
                    self.end_sending(key);
                }
                self.wake();
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Wakes the streams that wait for the connection, in the order in which they came.
    pub(super) fn unblock(&mut self) {
        while let Some(key) = self.blocked.pop_front() {
            let stream = &mut self.streams[key as usize];
            if std::mem::take(&mut stream.queued) {
                stream.wake_sender();
            }
        }
    }

    /// Ready when the stream is over before its end.
    pub(super) fn poll_reset(&mut self, key: u32, cx: &Context<'_>) -> Poll<CodecError> {
        let stream = self.stream(key);
        match &stream.error {
            Some(error) => Poll::Ready(error.clone()),
            None => {
                register(&mut stream.sender, cx);
                Poll::Pending
            }
        }
    }
}
