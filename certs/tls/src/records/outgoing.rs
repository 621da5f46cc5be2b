//! Records for the peer.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use rustls::{AlertDescription, Error};
use tokio::io::AsyncWrite;

use super::{Content, MAX_CONTENT, RecordKey};
use crate::buffers::Outbox;

/// Most bytes of content that are sealed for one write.
const BATCH: usize = 16 * MAX_CONTENT;
/// Most bytes that may wait for the next write: a batch still fits behind them.
const MAX_JOINED: usize = 3 << 10;
/// A `KeyUpdate` that does not ask for one in return (RFC 8446 section 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// The sending direction.
pub(crate) struct Outgoing {
    pub(crate) key: RecordKey,
    pub(crate) outbox: Outbox,
    /// What waits was never tried to be sent: it goes with the next write.
    pub(crate) deferred: bool,
    /// The peer wants a new key before the next data.
    pub(crate) update_requested: bool,
    /// Our side was ended, or has failed.
    pub(crate) closed: bool,
}

impl Outgoing {
    /// Takes over after a handshake; `outbox` may hold its last messages.
    pub(crate) fn new(key: RecordKey, outbox: Outbox) -> Self {
        Self { key, deferred: !outbox.is_empty(), outbox, update_requested: false, closed: false }
    }

    /// Whether data can go into the same write as what waits.
    pub(crate) fn can_join(&self) -> bool {
        self.deferred && self.outbox.len() <= MAX_JOINED
    }

    /// Writes all that waits.
    pub(crate) fn poll_drain<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.deferred = false;
        self.outbox.poll_drain(io, cx)
    }

    /// Whether a new key is due before more is sealed.
    pub(crate) fn wants_update(&self) -> bool {
        self.update_requested || self.key.is_worn()
    }

    /// Seals data, at most a batch; says how much of it.
    pub(crate) fn seal(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Error> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let total = total.min(BATCH);
        let records = total.div_ceil(MAX_CONTENT);
        let overhead = self.key.prefix() + self.key.suffix();
        let mut room = self.outbox.room(total + records * overhead);
        let mut source = Gather { slices, at: 0 };
        let mut sealed = 0;
        let mut written = 0;
        while sealed < total {
            let length = (total - sealed).min(MAX_CONTENT);
            let size = match source.whole(length) {
                Some(content) => self.key.seal(Content::Data, content, room)?,
                None => {
                    let prefix = self.key.prefix();
                    source.copy(&mut room[prefix..prefix + length]);
                    self.key.seal_in_place(Content::Data, length, room)?
                }
            };
            room = &mut room[size..];
            written += size;
            sealed += length;
        }
        self.outbox.advance(written);
        Ok(sealed)
    }

    /// Seals the message that announces a new key; the caller replaces it then.
    pub(crate) fn announce_update(&mut self) -> Result<(), Error> {
        self.update_requested = false;
        self.control(Content::Handshake, &KEY_UPDATE)
    }

    /// Ends our side; nothing is sealed after it.
    pub(crate) fn close(&mut self, description: AlertDescription) -> Result<(), Error> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        let level = if description == AlertDescription::CloseNotify { 1 } else { 2 };
        self.control(Content::Alert, &[level, description.into()])
    }

    fn control(&mut self, kind: Content, content: &[u8]) -> Result<(), Error> {
        let size = self.key.prefix() + content.len() + self.key.suffix();
        let room = self.outbox.room(size);
        // Behind a full buffer that the peer does not take there is nothing to be said.
        if room.len() >= size {
            let size = self.key.seal(kind, content, room)?;
            self.outbox.advance(size);
        }
        Ok(())
    }
}

/// Several slices, read one after the other.
struct Gather<'a> {
    slices: &'a [IoSlice<'a>],
    /// Bytes of the first slice that were read.
    at: usize,
}

impl<'a> Gather<'a> {
    /// The next bytes, if they lie in one slice.
    fn whole(&mut self, length: usize) -> Option<&'a [u8]> {
        self.skip_finished();
        let slices: &'a [IoSlice<'a>] = self.slices;
        let first: &'a [u8] = slices.first()?;
        let content = first.get(self.at..self.at + length)?;
        self.at += length;
        Some(content)
    }

    /// Copies the next bytes; there are enough.
    fn copy(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            self.skip_finished();
            let Some(first) = self.slices.first() else { return };
            let count = out.len().min(first.len() - self.at);
            let (filled, rest) = out.split_at_mut(count);
            filled.copy_from_slice(&first[self.at..self.at + count]);
            self.at += count;
            out = rest;
        }
    }

    fn skip_finished(&mut self) {
        while self.slices.first().is_some_and(|first| self.at == first.len()) {
            self.slices = &self.slices[1..];
            self.at = 0;
        }
    }
}
