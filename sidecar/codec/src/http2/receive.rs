//! What the peer's frames do to a connection and its streams (RFC 9113, 6).

use bytes::Bytes;

use super::frame::{self, Head, MAX_WINDOW, flag, kind, setting};
use super::state::{Closing, State};
use crate::{CodecError, Reason};

/// What pings of ours carry: whether the peer is there, and whether it has seen GOAWAY.
pub(super) const PING_ALIVE: &[u8; 8] = b"weftlive";
pub(super) const PING_CLOSING: &[u8; 8] = b"weftdone";

/// What the peer did wrong, and what has to end for it.
#[derive(Debug)]
pub(super) enum Fault {
    Connection(Reason),
    Stream(u32, Reason),
}

pub(super) const PROTOCOL: Fault = Fault::Connection(Reason::PROTOCOL_ERROR);
pub(super) const FRAME_SIZE: Fault = Fault::Connection(Reason::FRAME_SIZE_ERROR);

pub(super) type Verdict = Result<(), Fault>;

impl State {
    /// Takes in all whole frames of `bytes`; gives how many bytes those were.
    ///
    /// # Errors
    /// The connection has to end.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        let mut rest = bytes;
        while let Some(head) = Head::read(rest) {
            if head.length > frame::MAX_PAYLOAD {
                return Err(Reason::FRAME_SIZE_ERROR);
            }
            let Some(payload) = rest.get(frame::HEAD..frame::HEAD + head.length) else { break };
            rest = &rest[frame::HEAD + head.length..];
            match self.frame(head, payload) {
                Ok(()) => {}
                Err(Fault::Connection(reason)) => return Err(reason),
                Err(Fault::Stream(id, reason)) => self.reset_for_fault(id, reason),
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn reset_for_fault(&mut self, id: u32, reason: Reason) {
        match self.find(id) {
            Some(key) => {
                let error = CodecError::Malformed(format!("{reason:?}").into());
                self.reset(key, reason, error);
            }
            None => {
                frame::reset(&mut self.out, id, reason);
                self.remember(id, true);
            }
        }
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Verdict {
        if !self.settings_seen && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(PROTOCOL);
        }
        if self.block.is_some() && head.kind != kind::CONTINUATION {
            return Err(PROTOCOL);
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::PRIORITY => priority(head, payload),
            kind::RST_STREAM => self.rst_stream(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            // Nobody may push: a client must not, and a server was told so.
            kind::PUSH_PROMISE => Err(PROTOCOL),
            kind::PING => self.ping(head, payload),
            kind::GOAWAY => self.go_away(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Verdict {
        if head.stream == 0 {
            return Err(PROTOCOL);
        }
        let data = unpad(head, payload).ok_or(PROTOCOL)?;
        self.recv_window -= head.length as i64;
        if self.recv_window < 0 {
            return Err(Fault::Connection(Reason::FLOW_CONTROL_ERROR));
        }
        let Some(key) = self.find(head.stream) else {
            self.release_connection(head.length);
            return self.closed(head.stream);
        };
        // Until it knows our settings, the peer goes by the usual window.
        let least = if self.acknowledged { 0 } else { -i64::from(frame::FIRST_WINDOW) };
        let ends = head.has(flag::END_STREAM);
        let is_server = self.is_server;
        let stream = self.stream(key);
        stream.recv_window -= head.length as i64;
        let fault = if stream.recv_ended {
            Some(Reason::STREAM_CLOSED)
        } else if !is_server && !stream.answered {
            Some(Reason::PROTOCOL_ERROR)
        } else if stream.recv_window < least {
            Some(Reason::FLOW_CONTROL_ERROR)
        } else if !stream.expect_less(data.len()) || ends && !all_came(stream.expected) {
            Some(Reason::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(reason) = fault {
            self.release_connection(head.length);
            return Err(Fault::Stream(head.stream, reason));
        }
        let kept = if stream.discards { 0 } else { data.len() };
        if kept > 0 {
            stream.data.push_back(Bytes::copy_from_slice(data));
        }
        if ends {
            stream.recv_ended = true;
        }
        if ends || kept > 0 {
            stream.wake_receiver();
        }
        if head.length > kept {
            self.release_data(key, head.length - kept);
        }
        if ends {
            self.half_ended(key);
        }
        Ok(())
    }

    /// Something came for a stream that is not live.
    fn closed(&mut self, id: u32) -> Verdict {
        if self.is_idle(id) {
            return Err(PROTOCOL);
        }
        match self.remembered(id) {
            Some(true) => Ok(()),
            // Long ago, or ended by the peer itself.
            Some(false) | None => Err(Fault::Stream(id, Reason::STREAM_CLOSED)),
        }
    }

    fn rst_stream(&mut self, head: Head, payload: &[u8]) -> Verdict {
        if payload.len() != 4 {
            return Err(FRAME_SIZE);
        }
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(PROTOCOL);
        }
        if let Some(key) = self.find(head.stream)
            && self.was_reset(key, Reason::from(frame::word(payload)))
        {
            return Err(Fault::Connection(Reason::ENHANCE_YOUR_CALM));
        }
        Ok(())
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Verdict {
        if head.stream != 0 {
            return Err(PROTOCOL);
        }
        if head.has(flag::ACK) {
            self.acknowledged = true;
            return if payload.is_empty() { Ok(()) } else { Err(FRAME_SIZE) };
        }
        if !payload.len().is_multiple_of(6) {
            return Err(FRAME_SIZE);
        }
        if !std::mem::replace(&mut self.settings_seen, true) && !self.is_server {
            // One that has no limit says nothing.
            self.peer.streams = u32::MAX;
        }
        for entry in payload.chunks_exact(6) {
            self.setting(u16::from_be_bytes([entry[0], entry[1]]), frame::word(&entry[2..]))?;
        }
        frame::settings_ack(&mut self.out);
        Ok(())
    }

    fn setting(&mut self, id: u16, value: u32) -> Verdict {
        match id {
            setting::HEADER_TABLE_SIZE => self.encoder.set_limit(value as usize),
            setting::ENABLE_PUSH if value > 1 || value == 1 && !self.is_server => {
                return Err(PROTOCOL);
            }
            setting::MAX_CONCURRENT_STREAMS => self.peer.streams = value,
            setting::INITIAL_WINDOW_SIZE => {
                if i64::from(value) > MAX_WINDOW {
                    return Err(Fault::Connection(Reason::FLOW_CONTROL_ERROR));
                }
                let more = i64::from(value) - i64::from(self.peer.stream_window);
                self.peer.stream_window = value;
                for key in self.by_id.values() {
                    let stream = &mut self.streams[*key as usize];
                    stream.send_window += more;
                    if stream.send_window > MAX_WINDOW {
                        return Err(Fault::Connection(Reason::FLOW_CONTROL_ERROR));
                    }
                    if more > 0 {
                        stream.wake_sender();
                    }
                }
            }
            setting::MAX_FRAME_SIZE => {
                if !(16 << 10..1 << 24).contains(&value) {
                    return Err(PROTOCOL);
                }
                // Longer ones would keep others waiting.
                self.peer.frame = (value as usize).min(frame::MAX_PAYLOAD);
            }
            setting::ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(PROTOCOL),
            _ => {}
        }
        Ok(())
    }

    fn ping(&mut self, head: Head, payload: &[u8]) -> Verdict {
        if payload.len() != 8 {
            return Err(FRAME_SIZE);
        }
        if head.stream != 0 {
            return Err(PROTOCOL);
        }
        if !head.has(flag::ACK) {
            frame::ping(&mut self.out, flag::ACK, payload);
        } else if payload == PING_ALIVE {
            self.pong = true;
        } else if payload == PING_CLOSING && self.closing == Closing::Announced {
            self.closing = Closing::Final;
            frame::go_away(&mut self.out, self.last_id, Reason::NO_ERROR);
        }
        Ok(())
    }

    fn go_away(&mut self, head: Head, payload: &[u8]) -> Verdict {
        if head.stream != 0 {
            return Err(PROTOCOL);
        }
        let (last, reason) = payload.split_at_checked(4).ok_or(FRAME_SIZE)?;
        if reason.len() < 4 {
            return Err(FRAME_SIZE);
        }
        if self.is_server {
            return Ok(());
        }
        let (last, error) =
            (frame::word(last), CodecError::GoAway(Reason::from(frame::word(reason))));
        let unseen: Vec<_> = self.by_id.extract_if(|id, _| *id > last).collect();
        for (_, key) in unseen {
            // Whatever the reason, these were not looked at.
            self.stream(key).fail(CodecError::GoAway(Reason::NO_ERROR));
        }
        self.refused = Some(error);
        Ok(())
    }

    fn window_update(&mut self, head: Head, payload: &[u8]) -> Verdict {
        if payload.len() != 4 {
            return Err(FRAME_SIZE);
        }
        let more = i64::from(frame::word(payload) & 0x7fff_ffff);
        if head.stream == 0 {
            if more == 0 {
                return Err(PROTOCOL);
            }
            self.send_window += more;
            if self.send_window > MAX_WINDOW {
                return Err(Fault::Connection(Reason::FLOW_CONTROL_ERROR));
            }
            self.unblock();
            return Ok(());
        }
        let Some(key) = self.find(head.stream) else {
            return if self.is_idle(head.stream) { Err(PROTOCOL) } else { Ok(()) };
        };
        if more == 0 {
            return Err(Fault::Stream(head.stream, Reason::PROTOCOL_ERROR));
        }
        let stream = self.stream(key);
        stream.send_window += more;
        if stream.send_window > MAX_WINDOW {
            return Err(Fault::Stream(head.stream, Reason::FLOW_CONTROL_ERROR));
        }
        stream.wake_sender();
        Ok(())
    }
}

fn priority(head: Head, payload: &[u8]) -> Verdict {
    if head.stream == 0 {
        return Err(PROTOCOL);
    }
    if payload.len() != 5 {
        return Err(Fault::Stream(head.stream, Reason::FRAME_SIZE_ERROR));
    }
    if frame::word(payload) & 0x7fff_ffff == head.stream {
        return Err(Fault::Stream(head.stream, Reason::PROTOCOL_ERROR));
    }
    Ok(())
}

/// Takes padding away; `None`: there is more padding than payload.
pub(super) fn unpad(head: Head, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(flag::PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    let length = rest.len().checked_sub(usize::from(*padding))?;
    rest.get(..length)
}

pub(super) fn all_came(expected: Option<u64>) -> bool {
    expected.is_none_or(|left| left == 0)
}
