//! What can go wrong on a connection.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use hyper::client::conn::TrySendError;
use thiserror::Error;

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
    Reset(h2::Reason),
    /// The peer ended the connection without looking at the stream (RFC 9113, 6.8).
    #[error("the peer refuses more streams: {0:?}")]
    GoAway(h2::Reason),
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

impl From<h2::Error> for CodecError {
    fn from(error: h2::Error) -> Self {
        let reason = error.reason();
        match reason {
            Some(reason) if error.is_go_away() => Self::GoAway(reason),
            Some(reason) if error.is_reset() => Self::Reset(reason),
            _ => match error.get_io() {
                Some(cause) => io::Error::new(cause.kind(), cause.to_string()).into(),
                None => Self::Malformed(error.to_string().into()),
            },
        }
    }
}

impl From<hyper::Error> for CodecError {
    fn from(error: hyper::Error) -> Self {
        if error.is_user() && !error.is_canceled() {
            return Self::Body;
        }
        if let Some(alert) = find::<rustls::Error>(&error) {
            let alert = io::Error::new(io::ErrorKind::InvalidData, alert.clone());
            return Self::Io(Arc::new(alert));
        }
        if error.is_parse() {
            return Self::Malformed(error.to_string().into());
        }
        match find::<io::Error>(&error) {
            // Bytes that are no body.
            Some(cause) if is_malformed(cause) => Self::Malformed(cause.to_string().into()),
            Some(cause) => io::Error::from(cause.kind()).into(),
            None => Self::Closed,
        }
    }
}

fn is_malformed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
}

/// Looks for a cause; hyper gives its own by type only.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
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

impl<T> From<TrySendError<T>> for SendFailed<T> {
    fn from(mut failed: TrySendError<T>) -> Self {
        let unsent = failed.take_message().map(Box::new);
        Self { error: failed.into_error().into(), unsent }
    }
}
