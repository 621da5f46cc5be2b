//! Header blocks of the peer: requests, responses and trailers (RFC 9113, 8.1).

use http::StatusCode;

use super::frame::{self, Head, flag};
use super::head::{Received, content_length};
use super::receive::{FRAME_SIZE, Fault, PROTOCOL, Verdict, all_came, unpad};
use super::state::{Accepted, Closing, State};
use crate::Reason;

/// How many pieces a header block may come in.
const MOST_PIECES: u32 = 64;

/// A header block of which more is to come.
#[derive(Debug)]
pub(super) struct Block {
    stream: u32,
    ends_stream: bool,
    depends_on_itself: bool,
    bytes: Vec<u8>,
    pieces: u32,
}

impl State {
    pub(super) fn headers(&mut self, head: Head, payload: &[u8]) -> Verdict {
        if head.stream == 0 {
            return Err(PROTOCOL);
        }
        let mut block = unpad(head, payload).ok_or(PROTOCOL)?;
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            let (priority, rest) = block.split_at_checked(5).ok_or(FRAME_SIZE)?;
            depends_on_itself = frame::word(priority) & 0x7fff_ffff == head.stream;
            block = rest;
        }
        let ends_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.header_block(head.stream, block, ends_stream, depends_on_itself);
        }
        self.block = Some(Block {
            stream: head.stream,
            ends_stream,
            depends_on_itself,
            bytes: block.to_vec(),
            pieces: 1,
        });
        Ok(())
    }

    pub(super) fn continuation(&mut self, head: Head, payload: &[u8]) -> Verdict {
        let limit = self.local.header_list.saturating_add(frame::MAX_PAYLOAD);
        let mut block = self.block.take().ok_or(PROTOCOL)?;
        if block.stream != head.stream {
            return Err(PROTOCOL);
        }
        block.bytes.extend_from_slice(payload);
        block.pieces += 1;
        if block.bytes.len() > limit || block.pieces > MOST_PIECES {
            return Err(Fault::Connection(Reason::ENHANCE_YOUR_CALM));
        }
        if !head.has(flag::END_HEADERS) {
            self.block = Some(block);
            return Ok(());
        }
        let Block { stream, ends_stream, depends_on_itself, bytes, .. } = block;
        self.header_block(stream, &bytes, ends_stream, depends_on_itself)
    }

    fn header_block(&mut self, id: u32, block: &[u8], ends: bool, itself: bool) -> Verdict {
        let mut fields = Received::new(self.local.header_list);
        // Decompressed whatever comes of it: the table depends on it.
        self.decoder
            .decode(block, |field, size| fields.add(field, size))
            .map_err(|_| Fault::Connection(Reason::COMPRESSION_ERROR))?;
        let known = self.find(id);
        if itself && (known.is_some() || self.is_idle(id)) {
            self.last_id = self.last_id.max(if self.is_server { id } else { 0 });
            return Err(Fault::Stream(id, Reason::PROTOCOL_ERROR));
        }
        match known {
            Some(key) if self.is_server || self.stream(key).answered => {
                self.trailers(key, fields, ends)
            }
            Some(key) => self.response(key, fields, ends),
            None if self.is_server && id % 2 == 1 && id > self.last_id => {
                self.request(id, fields, ends)
            }
            None if self.is_idle(id) || id.is_multiple_of(2) => Err(PROTOCOL),
            None => match self.remembered(id) {
                Some(true) => Ok(()),
                Some(false) => Err(Fault::Connection(Reason::STREAM_CLOSED)),
                None => Err(PROTOCOL),
            },
        }
    }

    fn request(&mut self, id: u32, fields: Received, ends: bool) -> Verdict {
        self.last_id = id;
        if self.closing == Closing::Final {
            // It was told that this one will not be looked at.
            self.remember(id, true);
            return Ok(());
        }
        if self.by_id.len() >= self.local.streams as usize {
            return Err(Fault::Stream(id, Reason::REFUSED_STREAM));
        }
        if fields.too_long {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            self.write_headers(id, true, |encoder, out| {
                encoder.pseudo(out, ":status", status.as_str().as_bytes());
            });
            return if ends {
                self.remember(id, false);
                Ok(())
            } else {
                Err(Fault::Stream(id, Reason::NO_ERROR))
            };
        }
        let malformed = Fault::Stream(id, Reason::PROTOCOL_ERROR);
        let expected = content_length(&fields.headers);
        let (Some(head), Ok(expected)) = (fields.request(self.local.connect_protocol), expected)
        else {
            return Err(malformed);
        };
        if ends && !all_came(expected) {
            return Err(malformed);
        }
        let key = self.open(id, if ends { 1 } else { 2 });
        let stream = self.stream(key);
        stream.expected = expected;
        stream.recv_ended = ends;
        self.accepted.push_back(Accepted { key, head, has_body: !ends });
        Ok(())
    }

    fn response(&mut self, key: u32, fields: Received, ends: bool) -> Verdict {
        let id = self.stream(key).id;
        let malformed = Fault::Stream(id, Reason::PROTOCOL_ERROR);
        let expected = content_length(&fields.headers);
        let fits = !fields.too_long;
        let (true, Some(head), Ok(expected)) = (fits, fields.response(), expected) else {
            return Err(malformed);
        };
        let status = head.status();
        if status.is_informational() {
            // Nobody waits for those.
            let wrong = ends || status == StatusCode::SWITCHING_PROTOCOLS;
            return if wrong { Err(malformed) } else { Ok(()) };
        }
        let stream = self.stream(key);
        let bodiless = stream.answers_head
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        stream.expected = expected.filter(|_| !bodiless);
        if ends && !all_came(stream.expected) {
            return Err(malformed);
        }
        stream.head = Some(head);
        stream.answered = true;
        stream.recv_ended = ends;
        stream.wake_receiver();
        if ends {
            self.half_ended(key);
        }
        Ok(())
    }

    fn trailers(&mut self, key: u32, fields: Received, ends: bool) -> Verdict {
        let stream = self.stream(key);
        let id = stream.id;
        if stream.recv_ended {
            return Err(Fault::Stream(id, Reason::STREAM_CLOSED));
        }
        let Some(trailers) = fields.trailers().filter(|_| ends && all_came(stream.expected)) else {
            return Err(Fault::Stream(id, Reason::PROTOCOL_ERROR));
        };
        if !stream.discards {
            stream.trailers = Some(Box::new(trailers));
        }
        stream.recv_ended = true;
        stream.wake_receiver();
        self.half_ended(key);
        Ok(())
    }
}
