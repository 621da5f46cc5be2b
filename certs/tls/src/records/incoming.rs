//! Records that the peer sent.

use std::ops::Range;

use rustls::{AlertDescription, ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved};
use tokio::io::ReadBuf;

use super::key::Opened;
use super::{Content, HEADER, MAX_CONTENT, RecordKey};
use crate::buffers::Inbox;
use crate::provider::TlsVersion;

/// Most bytes by which a sealed record may exceed its content.
const MAX_OVERHEAD: [(TlsVersion, usize); 2] = [(TlsVersion::V1_3, 256), (TlsVersion::V1_2, 2048)];
/// Records without data that may follow one another, so that a peer can't keep us busy for nothing.
const MAX_FRUITLESS: u8 = 32;
/// Largest handshake message after the handshake: a session ticket with all its fields.
const MAX_MESSAGE: usize = (1 << 16) + 1024;
/// Bytes before the body of a handshake message: type and length.
const MESSAGE_HEADER: usize = 4;

/// What a look into the inbox gave.
pub(crate) enum Next {
    /// No room is left for more data.
    Full,
    /// The inbox needs to be filled until it holds so many bytes.
    Fill(usize),
    /// The peer has ended its side.
    Closed,
    /// Something for the owner of the secrets.
    Message(Message),
}

/// A message that TLS 1.3 sends after the handshake.
pub(crate) enum Message {
    /// Body of a `NewSessionTicket`.
    Ticket(Vec<u8>),
    /// The peer uses a new key from the next record on; it may want us to do the same.
    KeyUpdate { requested: bool },
}

/// The receiving direction.
pub(crate) struct Incoming {
    pub(crate) key: RecordKey,
    pub(crate) inbox: Inbox,
    version: TlsVersion,
    /// Content that did not fit where it was wanted: so many bytes, behind `skip` others, at the
    /// front of the inbox.
    opened: Range<usize>,
    /// What follows `opened` up to the next record.
    trailing: usize,
    /// Handshake messages so far as they have come.
    messages: Vec<u8>,
    fruitless: u8,
    closed: bool,
}

impl Incoming {
    /// Takes over after a handshake: `early` is data that was opened with its end.
    pub(crate) fn new(
        key: RecordKey,
        version: TlsVersion,
        early: &[u8],
        sealed: &[u8],
        closed: bool,
    ) -> Self {
        Self {
            key,
            inbox: Inbox::holding([early, sealed]),
            version,
            opened: 0..early.len(),
            trailing: 0,
            messages: Vec::new(),
            fruitless: 0,
            closed,
        }
    }

    /// Whether anything was received that was not handed out, or the peer has ended its side.
    pub(crate) fn holds_input(&self) -> bool {
        self.closed || !self.inbox.is_empty()
    }

    /// Hands out as much as is there and fits. An error is final.
    pub(crate) fn next(&mut self, out: &mut ReadBuf<'_>) -> Result<Next, Error> {
        self.hand_out_opened(out);
        loop {
            if out.remaining() == 0 {
                return Ok(Next::Full);
            }
            if self.closed {
                return Ok(Next::Closed);
            }
            if let Some(message) = self.message()? {
                return Ok(Next::Message(message));
            }
            match self.whole_record()? {
                Ok(size) => self.open(size, out)?,
                Err(least) => return Ok(Next::Fill(least)),
            }
        }
    }

    fn hand_out_opened(&mut self, out: &mut ReadBuf<'_>) {
        if self.opened.is_empty() {
            return;
        }
        let count = self.opened.len().min(out.remaining());
        let range = self.opened.start..self.opened.start + count;
        out.put_slice(&self.inbox.filled()[range]);
        self.opened.start += count;
        if self.opened.is_empty() {
            self.inbox.consume(self.opened.end + self.trailing);
            self.opened = 0..0;
            self.trailing = 0;
            self.inbox.release();
        }
    }

    /// The size of the record at the front; `Err`: how many bytes are needed to go on.
    fn whole_record(&mut self) -> Result<Result<usize, usize>, Error> {
        let there = self.inbox.filled();
        let Some(header) = there.first_chunk::<HEADER>() else { return Ok(Err(HEADER)) };
        let [kind, major, _, high, low] = *header;
        if major != 3 || !(20..=24).contains(&kind) {
            return Err(InvalidMessage::InvalidContentType.into());
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let allowed = MAX_OVERHEAD.iter().find(|(version, _)| *version == self.version);
        if length > MAX_CONTENT + allowed.map_or(0, |(_, overhead)| *overhead) {
            return Err(Error::PeerSentOversizedRecord);
        }
        let size = HEADER + length;
        Ok(if there.len() >= size { Ok(size) } else { Err(size) })
    }

    /// Opens the record at the front, into `out` if it is data that fits.
    fn open(&mut self, size: usize, out: &mut ReadBuf<'_>) -> Result<(), Error> {
        let length = self.key.opened_len(size).ok_or(Error::DecryptError)?;
        let record = &mut self.inbox.filled()[..size];
        // TLS 1.3 allows no record in the clear after the handshake.
        let shown = Content::from_byte(record[0]);
        if self.version == TlsVersion::V1_3 && shown != Some(Content::Data) {
            return Err(unexpected(record[0]));
        }
        if shown == Some(Content::Data) && length <= out.remaining() {
            let room = out.initialize_unfilled_to(length);
            let opened = self.key.open_into(record, room)?;
            if opened.kind == Content::Data.byte() && opened.length > 0 {
                self.count_data(&opened)?;
                out.advance(opened.length);
            } else {
                let content = out.initialize_unfilled_to(length)[..opened.length].to_vec();
                self.control(&opened, &content)?;
            }
            self.inbox.consume(size);
            self.inbox.release();
            return Ok(());
        }
        let prefix = self.key.prefix();
        let opened = self.key.open_in_place(record)?;
        if opened.kind == Content::Data.byte() && opened.length > 0 {
            self.count_data(&opened)?;
            self.opened = prefix..prefix + opened.length;
            self.trailing = size - self.opened.end;
            self.hand_out_opened(out);
            return Ok(());
        }
        let content = record[prefix..prefix + opened.length].to_vec();
        self.inbox.consume(size);
        self.inbox.release();
        self.control(&opened, &content)
    }

    fn count_data(&mut self, opened: &Opened) -> Result<(), Error> {
        if !self.messages.is_empty() {
            return Err(unexpected(opened.kind));
        }
        if opened.length > MAX_CONTENT {
            return Err(Error::PeerSentOversizedRecord);
        }
        self.fruitless = 0;
        Ok(())
    }

    fn count_fruitless(&mut self) -> Result<(), Error> {
        self.fruitless += 1;
        if self.fruitless > MAX_FRUITLESS {
            return Err(PeerMisbehaved::TooManyEmptyFragments.into());
        }
        Ok(())
    }

    /// Takes a record that carries no data.
    fn control(&mut self, opened: &Opened, content: &[u8]) -> Result<(), Error> {
        self.count_fruitless()?;
        match Content::from_byte(opened.kind) {
            Some(Content::Data) if self.messages.is_empty() => Ok(()),
            Some(Content::Alert) if self.messages.is_empty() => self.alert(content),
            Some(Content::Handshake) if self.version == TlsVersion::V1_3 => {
                if content.is_empty() || self.messages.len() + content.len() > MAX_MESSAGE {
                    return Err(InvalidMessage::HandshakePayloadTooLarge.into());
                }
                self.messages.extend_from_slice(content);
                Ok(())
            }
            // A server that asks for renegotiation may be ignored (RFC 5246 section 7.4.1.1).
            Some(Content::Handshake) if content == [0, 0, 0, 0] => Ok(()),
            _ => Err(unexpected(opened.kind)),
        }
    }

    fn alert(&mut self, content: &[u8]) -> Result<(), Error> {
        let [level, description] = *content else {
            return Err(InvalidMessage::TrailingData("alert").into());
        };
        let description = AlertDescription::from(description);
        let warning = level == 1;
        let ignored = match self.version {
            TlsVersion::V1_3 => description == AlertDescription::UserCanceled,
            TlsVersion::V1_2 => true,
        };
        if description == AlertDescription::CloseNotify {
            self.closed = true;
        } else if !(warning && ignored) {
            return Err(Error::AlertReceived(description));
        }
        Ok(())
    }

    /// The next whole handshake message.
    fn message(&mut self) -> Result<Option<Message>, Error> {
        let Some(header) = self.messages.first_chunk::<MESSAGE_HEADER>() else { return Ok(None) };
        let [kind, high, middle, low] = *header;
        let end = MESSAGE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
        if end > MAX_MESSAGE {
            return Err(InvalidMessage::HandshakePayloadTooLarge.into());
        }
        if self.messages.len() < end {
            return Ok(None);
        }
        let body = self.messages[MESSAGE_HEADER..end].to_vec();
        self.messages.drain(..end);
        if self.messages.is_empty() {
            self.messages = Vec::new();
        }
        match HandshakeType::from(kind) {
            HandshakeType::NewSessionTicket => Ok(Some(Message::Ticket(body))),
            HandshakeType::KeyUpdate if self.messages.is_empty() && body.len() == 1 => {
                match body[0] {
                    0 => Ok(Some(Message::KeyUpdate { requested: false })),
                    1 => Ok(Some(Message::KeyUpdate { requested: true })),
                    _ => Err(InvalidMessage::InvalidKeyUpdate.into()),
                }
            }
            HandshakeType::KeyUpdate => Err(PeerMisbehaved::KeyEpochWithPendingFragment.into()),
            other => Err(Error::InappropriateHandshakeMessage {
                expect_types: vec![HandshakeType::NewSessionTicket, HandshakeType::KeyUpdate],
                got_type: other,
            }),
        }
    }
}

fn unexpected(kind: u8) -> Error {
    Error::InappropriateMessage {
        expect_types: vec![ContentType::ApplicationData],
        got_type: ContentType::from(kind),
    }
}
