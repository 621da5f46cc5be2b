//! The key of one direction: sealing and opening single records.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, Error};

use super::{Content, HEADER};
use crate::provider::TlsVersion;

/// Bytes of the authentication tag; the same for all suites.
const TAG: usize = 16;
/// Bytes of the nonce that TLS 1.2 sends along with AES-GCM (RFC 5288 section 3).
const EXPLICIT_NONCE: usize = 8;
/// Records that one key may seal. For AES-GCM a margin to the bound of RFC 8446 section 5.5.
const KEY_LIMIT: u64 = 1 << 24;

/// How a version and a suite lay out their records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// TLS 1.3: the content type is encrypted behind the content.
    Modern,
    /// TLS 1.2 with AES-GCM: half of the nonce stands before the content.
    ExplicitNonce,
    /// TLS 1.2 with ChaCha20-Poly1305 (RFC 7905).
    ImplicitNonce,
}

/// An AEAD key with its sequence number.
pub(crate) struct RecordKey {
    key: LessSafeKey,
    iv: [u8; aead::NONCE_LEN],
    sequence: u64,
    layout: Layout,
}

impl RecordKey {
    /// The key that rustls negotiated for one direction, and the number of its next record.
    pub(crate) fn new(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
        version: TlsVersion,
    ) -> Result<Self, Error> {
        let (algorithm, key, iv, old_layout) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => {
                (&aead::AES_128_GCM, key, iv, Layout::ExplicitNonce)
            }
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
                (&aead::AES_256_GCM, key, iv, Layout::ExplicitNonce)
            }
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv, Layout::ImplicitNonce)
            }
            _ => return Err(Error::General("an unknown kind of traffic secret".to_owned())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref());
        let key = key.map_err(|_| Error::General("a traffic secret of a wrong size".to_owned()))?;
        let mut own = [0; aead::NONCE_LEN];
        own.copy_from_slice(iv.as_ref());
        let layout = match version {
            TlsVersion::V1_3 => Layout::Modern,
            TlsVersion::V1_2 => old_layout,
        };
        Ok(Self { key: LessSafeKey::new(key), iv: own, sequence, layout })
    }

    /// Whether the key has sealed as much as it safely can.
    pub(crate) fn is_worn(&self) -> bool {
        self.sequence >= KEY_LIMIT
    }

    /// Bytes before the content of a sealed record, the header included.
    pub(super) fn prefix(&self) -> usize {
        match self.layout {
            Layout::ExplicitNonce => HEADER + EXPLICIT_NONCE,
            Layout::Modern | Layout::ImplicitNonce => HEADER,
        }
    }

    /// Bytes behind the content of a sealed record.
    pub(super) fn suffix(&self) -> usize {
        match self.layout {
            Layout::Modern => 1 + TAG,
            Layout::ExplicitNonce | Layout::ImplicitNonce => TAG,
        }
    }

    /// Bytes that opening a record of this size, header included, gives before padding is taken
    /// off; `None` when there is no content at all.
    pub(super) fn opened_len(&self, record: usize) -> Option<usize> {
        record.checked_sub(self.prefix() + TAG)
    }

    /// Opens a whole record into `out`, which has its opened length.
    pub(super) fn open_into(&mut self, record: &[u8], out: &mut [u8]) -> Result<Opened, Error> {
        let (header, body) = record.split_at(HEADER);
        let nonce = self.nonce(explicit(self.layout, body))?;
        let sealed = &record[self.prefix()..];
        let (sealed, tag) = sealed.split_at(out.len());
        let aad = self.aad(header, out.len());
        self.key
            .open_separate_gather(nonce, Aad::from(aad.bytes()), sealed, tag, out)
            .map_err(|_| Error::DecryptError)?;
        self.sequence += 1;
        self.opened(header, out)
    }

    /// Opens a whole record where it is; the content then begins [`Self::prefix`] bytes in.
    pub(super) fn open_in_place(&mut self, record: &mut [u8]) -> Result<Opened, Error> {
        let prefix = self.prefix();
        let (head, sealed) = record.split_at_mut(prefix);
        let (header, explicit) = head.split_at(HEADER);
        let nonce = self.nonce(explicit)?;
        let aad = self.aad(header, sealed.len() - TAG);
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(aad.bytes()), sealed)
            .map_err(|_| Error::DecryptError)?;
        self.sequence += 1;
        self.opened(header, opened)
    }

    /// Seals `content` as one record at the front of `out`.
    pub(super) fn seal(
        &mut self,
        kind: Content,
        content: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let parts = self.begin(kind, content.len(), out)?;
        self.key
            .seal_out_of_place_scatter(
                parts.nonce,
                Aad::from(parts.aad.bytes()),
                content,
                parts.content,
                &[kind.byte()][..parts.kinds],
                parts.rest,
            )
            .map_err(|_| Error::EncryptError)?;
        self.sequence += 1;
        Ok(self.prefix() + content.len() + self.suffix())
    }

    /// Seals content that lies in `out` already, [`Self::prefix`] bytes in.
    pub(super) fn seal_in_place(
        &mut self,
        kind: Content,
        length: usize,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let parts = self.begin(kind, length, out)?;
        self.key
            .seal_in_place_scatter(
                parts.nonce,
                Aad::from(parts.aad.bytes()),
                parts.content,
                &[kind.byte()][..parts.kinds],
                parts.rest,
            )
            .map_err(|_| Error::EncryptError)?;
        self.sequence += 1;
        Ok(self.prefix() + length + self.suffix())
    }

    /// Writes what stands before the content, and says where the rest belongs.
    fn begin<'a>(
        &self,
        kind: Content,
        length: usize,
        out: &'a mut [u8],
    ) -> Result<Parts<'a>, Error> {
        let (head, rest) = out.split_at_mut(self.prefix());
        let (content, rest) = rest.split_at_mut(length);
        let rest = &mut rest[..self.suffix()];
        let (header, explicit) = head.split_at_mut(HEADER);
        let modern = self.layout == Layout::Modern;
        // TLS 1.3 shows every record as data of TLS 1.2.
        let shown = if modern { Content::Data } else { kind };
        let size = explicit.len() + length + self.suffix();
        let [high, low] = (size as u16).to_be_bytes();
        header.copy_from_slice(&[shown.byte(), 3, 3, high, low]);
        if self.layout == Layout::ExplicitNonce {
            let nonce = self.counter_nonce();
            explicit.copy_from_slice(&nonce[aead::NONCE_LEN - EXPLICIT_NONCE..]);
        }
        let nonce = self.nonce(explicit)?;
        let aad = self.aad(header, length);
        Ok(Parts { nonce, aad, content, rest, kinds: usize::from(modern) })
    }

    /// The nonce of the next record, given what it sends along.
    fn nonce(&self, explicit: &[u8]) -> Result<Nonce, Error> {
        // Out of numbers: a nonce would be used twice.
        if self.sequence == u64::MAX {
            return Err(Error::EncryptError);
        }
        let mut nonce = self.counter_nonce();
        if self.layout == Layout::ExplicitNonce {
            let at = aead::NONCE_LEN - EXPLICIT_NONCE;
            nonce[at..].copy_from_slice(&explicit[..EXPLICIT_NONCE]);
        }
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    fn counter_nonce(&self) -> [u8; aead::NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, counter) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= counter;
        }
        nonce
    }

    /// What is authenticated besides the content: the header; in TLS 1.2 also the number.
    fn aad(&self, header: &[u8], length: usize) -> Associated {
        let mut aad = Associated { bytes: [0; 13], length: HEADER };
        if self.layout == Layout::Modern {
            aad.bytes[..HEADER].copy_from_slice(header);
            return aad;
        }
        let [high, low] = (length as u16).to_be_bytes();
        aad.bytes[..8].copy_from_slice(&self.sequence.to_be_bytes());
        aad.bytes[8..].copy_from_slice(&[header[0], header[1], header[2], high, low]);
        aad.length = aad.bytes.len();
        aad
    }

    /// Finds content type and length of what was opened.
    fn opened(&self, header: &[u8], opened: &[u8]) -> Result<Opened, Error> {
        if self.layout != Layout::Modern {
            return Ok(Opened { kind: header[0], length: opened.len() });
        }
        // The content type stands behind the content, zeros may follow it as padding.
        let at = opened.iter().rposition(|byte| *byte != 0);
        let at = at.ok_or(rustls::PeerMisbehaved::IllegalTlsInnerPlaintext)?;
        Ok(Opened { kind: opened[at], length: at })
    }
}

/// A record that was opened.
pub(super) struct Opened {
    /// The content type as it was sent.
    pub(super) kind: u8,
    /// Bytes of content.
    pub(super) length: usize,
}

struct Parts<'a> {
    nonce: Nonce,
    aad: Associated,
    content: &'a mut [u8],
    /// Room for the encrypted content type and the tag.
    rest: &'a mut [u8],
    /// How many bytes of content type are encrypted.
    kinds: usize,
}

struct Associated {
    bytes: [u8; 13],
    length: usize,
}

impl Associated {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn explicit(layout: Layout, body: &[u8]) -> &[u8] {
    match layout {
        Layout::ExplicitNonce => &body[..EXPLICIT_NONCE],
        Layout::Modern | Layout::ImplicitNonce => &[],
    }
}
