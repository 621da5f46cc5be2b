//! A TLS connection as a stream of bytes.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ConnectionTrafficSecrets, Error, HandshakeType};
use rustls_pki_types::{ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::TlsError;
use crate::peer::Handshake;
use crate::provider::TlsVersion;
use crate::records::{Incoming, Message, Next, Outgoing, RecordKey};
use crate::validation::{PeerPolicy, PeerRole};

/// A TLS connection that has done its handshake.
///
/// It holds buffers only while bytes are in flight. Data is written with the call that hands it
/// over; what the transport does not take at once goes with a flush, or with the next write.
pub struct TlsStream<IO> {
    io: IO,
    session: Box<Session>,
}

/// The part of a connection that does not depend on the transport.
pub(crate) struct Session {
    pub(crate) handshake: Handshake,
    pub(crate) secrets: Secrets,
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
    /// Why the connection is broken.
    pub(crate) failed: Option<Error>,
}

/// rustls' part of an established connection: it makes new keys and remembers tickets.
pub(crate) enum Secrets {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl<IO> TlsStream<IO> {
    pub(crate) fn new(io: IO, session: Session) -> Self {
        Self { io, session: Box::new(session) }
    }

    /// What was agreed on in the handshake.
    pub fn handshake(&self) -> &Handshake {
        &self.session.handshake
    }

    /// Lets the next write begin with a new key.
    #[cfg(test)]
    pub(crate) fn wear_key(&mut self) {
        self.session.outgoing.update_requested = true;
    }

    /// Whether a read may give something without one from the transport: data, the end, or an
    /// error.
    pub fn holds_input(&self) -> bool {
        let session = &*self.session;
        session.failed.is_some() || session.incoming.holds_input()
    }

    /// The transport below.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> TlsStream<IO> {
    /// Judges the peer's certificate once more, and takes over what is known of it. A peer that is
    /// refused is told so, as far as the transport takes it at once.
    pub(crate) async fn recheck(
        &mut self,
        policy: &PeerPolicy,
        server_name: Option<&ServerName<'_>>,
        role: PeerRole,
    ) -> Result<(), TlsError> {
        let Some(peer) = &self.session.handshake.peer else { return Ok(()) };
        let Some((leaf, intermediates)) = peer.chain().split_first() else { return Ok(()) };
        match policy.recognize((leaf, intermediates), server_name, UnixTime::now(), role) {
            Ok(known) => {
                if known.is_some() {
                    self.session.handshake.peer = known;
                }
                Ok(())
            }
            Err(reason) => {
                // The refusal stands whether or not the peer hears of it.
                let _ = self.session.outgoing.close(reason.alert());
                let (outgoing, io) = (&mut self.session.outgoing, &mut self.io);
                let _ = poll_fn(|cx| Poll::Ready(outgoing.poll_drain(io, cx))).await;
                Err(TlsError::Verify(reason))
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, least: usize) -> Poll<io::Result<usize>> {
        let session = &mut *self.session;
        let filled = session.incoming.inbox.poll_fill(&mut self.io, cx, least);
        if filled.is_pending() {
            // The peer may be waiting for what was left to go with the next write. Where that
            // fails, the next write says so.
            let _ = session.outgoing.poll_drain(&mut self.io, cx);
        }
        filled
    }

    fn fail(&mut self, error: Error, cx: &mut Context<'_>) -> io::Error {
        if let Some(alert) = alert_for(&error) {
            // The connection is broken whether or not the peer hears of it.
            let _ = self.session.outgoing.close(alert);
            let _ = self.session.outgoing.poll_drain(&mut self.io, cx);
        }
        self.session.failed = Some(error.clone());
        broken(error)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(error) = &this.session.failed {
            return Poll::Ready(Err(broken(error.clone())));
        }
        let before = buf.filled().len();
        loop {
            let session = &mut *this.session;
            let next = session.incoming.next(buf);
            let given = buf.filled().len() > before;
            let taken = match next {
                Ok(Next::Full | Next::Closed) => return Poll::Ready(Ok(())),
                Ok(Next::Fill(_)) if given => return Poll::Ready(Ok(())),
                Ok(Next::Fill(least)) => {
                    if ready!(this.poll_fill(cx, least))? == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    Ok(())
                }
                Ok(Next::Message(message)) => session.take_message(message),
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                let error = this.fail(error, cx);
                // The data before it is good; the next read tells.
                return Poll::Ready(if given { Ok(()) } else { Err(error) });
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let session = &mut *this.session;
        if session.outgoing.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !session.outgoing.can_join() {
            ready!(session.outgoing.poll_drain(&mut this.io, cx))?;
        }
        if bufs.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let sealed = session.renew_key().and_then(|()| session.outgoing.seal(bufs));
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(error) => return Poll::Ready(Err(this.fail(error, cx))),
        };
        // What is not taken now goes with the flush.
        match session.outgoing.poll_drain(&mut this.io, cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(sealed)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.session.outgoing.poll_drain(&mut this.io, cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outgoing = &mut this.session.outgoing;
        if !outgoing.closed {
            ready!(outgoing.poll_drain(&mut this.io, cx))?;
            outgoing.close(AlertDescription::CloseNotify).map_err(broken)?;
        }
        ready!(outgoing.poll_drain(&mut this.io, cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<IO: fmt::Debug> fmt::Debug for TlsStream<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("io", &self.io).finish_non_exhaustive()
    }
}

impl Session {
    fn take_message(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Ticket(body) => self.secrets.remember(&body),
            Message::KeyUpdate { requested } => {
                self.incoming.key = RecordKey::new(self.secrets.next_rx()?, TlsVersion::V1_3)?;
                self.outgoing.update_requested |= requested;
                Ok(())
            }
        }
    }

    /// Goes on to a new key where one is due.
    fn renew_key(&mut self) -> Result<(), Error> {
        if !self.outgoing.wants_update() {
            return Ok(());
        }
        if self.handshake.version != Some(TlsVersion::V1_3) {
            return Err(Error::EncryptError);
        }
        self.outgoing.announce_update()?;
        self.outgoing.key = RecordKey::new(self.secrets.next_tx()?, TlsVersion::V1_3)?;
        Ok(())
    }
}

impl Secrets {
    fn next_rx(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(secrets) => secrets.update_rx_secret(),
            Self::Server(secrets) => secrets.update_rx_secret(),
        }
    }

    fn next_tx(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(secrets) => secrets.update_tx_secret(),
            Self::Server(secrets) => secrets.update_tx_secret(),
        }
    }

    fn remember(&mut self, ticket: &[u8]) -> Result<(), Error> {
        match self {
            Self::Client(secrets) => secrets.handle_new_session_ticket(ticket),
            Self::Server(_) => Err(Error::InappropriateHandshakeMessage {
                expect_types: vec![HandshakeType::KeyUpdate],
                got_type: HandshakeType::NewSessionTicket,
            }),
        }
    }
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// How the peer is told; an alert is not answered by an alert.
fn alert_for(error: &Error) -> Option<AlertDescription> {
    match error {
        Error::AlertReceived(_) => None,
        Error::DecryptError => Some(AlertDescription::BadRecordMac),
        Error::PeerSentOversizedRecord => Some(AlertDescription::RecordOverflow),
        Error::InvalidMessage(_) => Some(AlertDescription::DecodeError),
        Error::EncryptError | Error::General(_) => Some(AlertDescription::InternalError),
        _ => Some(AlertDescription::UnexpectedMessage),
    }
}
