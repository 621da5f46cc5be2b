//! Driving rustls through a handshake, up to the keys of the connection.

use std::future::poll_fn;
use std::io;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};
use rustls::{CommonState, Error, ExtractedSecrets};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffers::{Inbox, Outbox};
use crate::error::TlsError;
use crate::peer::Handshake;
use crate::provider::TlsVersion;
use crate::records::{Incoming, Outgoing, RecordKey};
use crate::stream::{Secrets, Session, TlsStream};

/// A connection of rustls that does no I/O of its own.
pub(crate) trait Unbuffered: Sized {
    type Side;
    const IS_CLIENT: bool;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Side>;

    fn common(&self) -> &CommonState;

    fn into_secrets(self) -> Result<(ExtractedSecrets, Secrets), Error>;
}

impl Unbuffered for UnbufferedClientConnection {
    type Side = ClientConnectionData;
    const IS_CLIENT: bool = true;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Side> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_secrets(self) -> Result<(ExtractedSecrets, Secrets), Error> {
        let (extracted, secrets) = self.dangerous_into_kernel_connection()?;
        Ok((extracted, Secrets::Client(secrets)))
    }
}

impl Unbuffered for UnbufferedServerConnection {
    type Side = ServerConnectionData;
    const IS_CLIENT: bool = false;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Side> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_secrets(self) -> Result<(ExtractedSecrets, Secrets), Error> {
        let (extracted, secrets) = self.dangerous_into_kernel_connection()?;
        Ok((extracted, Secrets::Server(secrets)))
    }
}

/// Does a handshake. `inbox` holds what has come already; `server_name` is the name that a client
/// asked us for.
///
/// A server's session tickets go with the first write, flush, or read that finds nothing.
pub(crate) async fn shake_hands<IO, C>(
    io: IO,
    connection: C,
    inbox: Inbox,
    server_name: Option<String>,
) -> Result<TlsStream<IO>, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    C: Unbuffered,
{
    let mut driver =
        Driver { io, connection, inbox, outbox: Outbox::default(), early: Early::default() };
    driver.run().await?;
    driver.finish(server_name)
}

/// What came with the end of the handshake.
#[derive(Default)]
struct Early {
    data: Vec<u8>,
    closed: bool,
}

struct Driver<IO, C> {
    io: IO,
    connection: C,
    inbox: Inbox,
    outbox: Outbox,
    early: Early,
}

enum Step {
    /// There may be more to do at once.
    Again,
    /// What is in the outbox has to go out.
    Send,
    /// Bytes of the peer are needed.
    Receive,
    /// All is said.
    Done,
}

impl<IO: AsyncRead + AsyncWrite + Unpin, C: Unbuffered> Driver<IO, C> {
    async fn run(&mut self) -> Result<(), TlsError> {
        loop {
            match self.step() {
                Ok(Step::Again) => {}
                Ok(Step::Send) => {
                    if self.must_send() {
                        self.send().await?;
                    }
                }
                Ok(Step::Receive) => {
                    let filled = self.inbox.filled().len();
                    let inbox = &mut self.inbox;
                    let io = &mut self.io;
                    if poll_fn(|cx| inbox.poll_fill(io, cx, filled + 1)).await? == 0 {
                        return Err(TlsError::Closed);
                    }
                }
                Ok(Step::Done) => return Ok(()),
                Err(error) => {
                    // The alert, if rustls has one to send; the handshake has failed in any case.
                    let _ = self.step_with_inbox();
                    let _ = self.send().await;
                    return Err(error.into());
                }
            }
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        let (outbox, io) = (&mut self.outbox, &mut self.io);
        poll_fn(|cx| outbox.poll_drain(io, cx)).await?;
        poll_fn(|cx| std::pin::Pin::new(&mut *io).poll_flush(cx)).await
    }

    /// Session tickets can wait for the first write, the rest of a handshake can't.
    fn must_send(&self) -> bool {
        let common = self.connection.common();
        let version = common.protocol_version().and_then(TlsVersion::from_rustls);
        common.is_handshaking() || version != Some(TlsVersion::V1_3) || C::IS_CLIENT
    }

    fn step(&mut self) -> Result<Step, Error> {
        // Once the handshake is done, rustls shall not open the records behind it.
        if !self.connection.common().is_handshaking() {
            return self.step_with_nothing();
        }
        self.step_with_inbox()
    }

    fn step_with_inbox(&mut self) -> Result<Step, Error> {
        let status = self.connection.process(self.inbox.filled());
        let discard = status.discard;
        let step = advance(status, &mut self.outbox, &mut self.early);
        self.inbox.consume(discard);
        self.inbox.release();
        step
    }

    fn step_with_nothing(&mut self) -> Result<Step, Error> {
        advance(self.connection.process(&mut []), &mut self.outbox, &mut self.early)
    }

    fn finish(self, server_name: Option<String>) -> Result<TlsStream<IO>, TlsError> {
        let Self { io, connection, mut inbox, outbox, early } = self;
        let handshake = Handshake { server_name, ..Handshake::of(connection.common()) };
        let version = handshake.version.ok_or(Error::HandshakeNotComplete)?;
        let (extracted, secrets) = connection.into_secrets()?;
        let rx = RecordKey::new(extracted.rx, version)?;
        let tx = RecordKey::new(extracted.tx, version)?;
        let session = Session {
            handshake,
            secrets,
            incoming: Incoming::new(rx, version, &early.data, inbox.filled(), early.closed),
            outgoing: Outgoing::new(tx, outbox),
            failed: None,
        };
        Ok(TlsStream::new(io, session))
    }
}

/// Carries out what rustls asks for.
fn advance<Side>(
    status: UnbufferedStatus<'_, '_, Side>,
    outbox: &mut Outbox,
    early: &mut Early,
) -> Result<Step, Error> {
    match status.state? {
        ConnectionState::EncodeTlsData(mut data) => {
            let mut room = outbox.room(0);
            let written = match data.encode(room) {
                Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                    room = outbox.room(required_size);
                    data.encode(room)
                }
                other => other,
            };
            let written = written.map_err(|error| Error::General(error.to_string()))?;
            outbox.advance(written);
            Ok(Step::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Send)
        }
        ConnectionState::ReadTraffic(mut data) => {
            while let Some(record) = data.next_record() {
                early.data.extend_from_slice(record?.payload);
            }
            Ok(Step::Again)
        }
        ConnectionState::ReadEarlyData(_) => {
            Err(Error::General("early data, which was never allowed".to_owned()))
        }
        ConnectionState::PeerClosed => {
            early.closed = true;
            Ok(Step::Again)
        }
        ConnectionState::BlockedHandshake => Ok(Step::Receive),
        ConnectionState::WriteTraffic(_) => Ok(Step::Done),
        ConnectionState::Closed => Err(Error::HandshakeNotComplete),
        _ => Err(Error::General("an unknown state of the handshake".to_owned())),
    }
}
