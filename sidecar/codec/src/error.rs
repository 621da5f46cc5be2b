//! What can go wrong on a connection.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::Reason;

/// Why a message could not be received or sent.
#[derive(Clone, Debug, Error)]
pub enum CodecError {
    /// The peer ended the connection before the message was whole.
    #[error("the connection ended before the message was whole")]
    Closed,
    /// The transport failed; TLS alerts are below it.
    #[error("the connection failed: {0}")]
    Io(Arc<io::Error>),
    /// The peer reset the stream (RFC 9113, 6.4).
    #[error("the peer reset the stream: {0:?}")]
    Reset(Reason),
    /// The peer ended the connection without looking at the stream (RFC 9113, 6.8).
    #[error("the peer refuses more streams: {0:?}")]
    GoAway(Reason),
    /// What the peer sent is not HTTP.
    #[error("the peer broke the protocol: {0}")]
    Malformed(Arc<str>),
    /// The body that was to be sent ended with an error.
    #[error("the body to be sent broke off")]
    Body,
}

impl From<io::Error> for CodecError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
                if error.get_ref().is_none() =>
            {
                Self::Closed
            }
            _ => Self::Io(Arc::new(error)),
        }
    }
}

/// A request that got no response.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct SendFailed<T> {
    /// Why.
    pub error: CodecError,
    /// The request, when nothing of it was sent: it may go over another connection.
    pub unsent: Option<Box<T>>,
}
