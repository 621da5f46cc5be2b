//! Bodies of answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use weft_codec::{CodecError, Incoming};

/// A body: some bytes, or what was received, sent on as it comes.
#[derive(Debug)]
pub(super) enum Answer {
    Bytes(Bytes),
    Echo(Incoming),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = CodecError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        match self.get_mut() {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Echo(incoming) => Pin::new(incoming).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Echo(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Echo(incoming) => incoming.size_hint(),
        }
    }
}

/// What was received of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) data: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
    /// Whether it broke off.
    pub(super) broken: bool,
}

/// Reads a body to its end.
pub(super) async fn read(mut body: impl Body<Data = Bytes, Error = CodecError> + Unpin) -> Whole {
    let mut whole = Whole::default();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => whole.data.extend_from_slice(&data),
            Ok(Err(frame)) => whole.trailers = frame.into_trailers().ok(),
            Err(_) => {
                // What came before the fault may have been given or not.
                whole = Whole { broken: true, ..Whole::default() };
                break;
            }
        }
    }
    whole
}
