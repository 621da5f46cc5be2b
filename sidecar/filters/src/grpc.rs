//! gRPC over callouts: the framing of messages, unary calls, and what answers say.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Request};
use weft_filter_api::{CalloutError, CalloutOptions, Callouts, Trailers};
use weft_xds_proto::Message;

use crate::config::GrpcTarget;

/// Flag, length.
const PREFIX: usize = 5;

/// A call that gave no message.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum GrpcError {
    /// The server could not be asked.
    #[error(transparent)]
    Callout(#[from] CalloutError),
    /// It answered with an error.
    #[error("gRPC status {code}: {message}")]
    Status {
        /// `grpc-status`
        code: u32,
        /// `grpc-message`
        message: String,
    },
    /// It answered with what is no message.
    #[error("the answer is not the message that was expected")]
    Malformed,
}

/// The head of a call of `/package.Service/Method` to the cluster `cluster`.
pub(crate) fn head<B>(authority: &str, path: &str, body: B) -> Result<Request<B>, CalloutError> {
    let request = Request::post(format!("http://{authority}{path}"))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(TE, HeaderValue::from_static("trailers"))
        .body(body);
    request.map_err(|error| CalloutError::Failed(error.to_string().into()))
}

/// A message with its prefix (gRPC over HTTP/2, Length-Prefixed-Message), not compressed.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    out.extend_from_slice(&message.encode_to_vec());
    out.freeze()
}

/// Takes the next whole message off the front of `buffer`; `None`: it is not all there yet.
///
/// # Errors
/// It is compressed, which was not offered, or no message of this type.
pub(crate) fn take<M: Message + Default>(buffer: &mut BytesMut) -> Result<Option<M>, GrpcError> {
    let Some((prefix, rest)) = buffer.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let [compressed, length @ ..] = prefix;
    let length = u32::from_be_bytes(*length) as usize;
    if *compressed != 0 {
        return Err(GrpcError::Malformed);
    }
    if rest.len() < length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    let message = M::decode(buffer.split_to(length)).map_err(|_| GrpcError::Malformed)?;
    Ok(Some(message))
}

/// Calls a method with one message and gives the one that comes back.
///
/// # Errors
/// [`GrpcError`]
pub(crate) async fn unary<M: Message + Default>(
    callouts: &dyn Callouts,
    call: &Call<'_>,
    message: &impl Message,
) -> Result<M, GrpcError> {
    let mut request = head(call.authority, call.path, frame(message))?;
    for (name, value) in call.metadata {
        request.headers_mut().append(name, value.clone());
    }
    let timeout = format!("{}m", call.options.timeout.as_millis().clamp(1, 99_999_999));
    if let Ok(timeout) = HeaderValue::try_from(timeout) {
        request.headers_mut().insert("grpc-timeout", timeout);
    }
    let answer = callouts.send(call.cluster, request, call.options).await?;
    if !answer.status().is_success() {
        let code = code_of_http(answer.status().as_u16());
        let message = format!("HTTP status {}", answer.status().as_u16());
        return Err(GrpcError::Status { code, message });
    }
    let trailers = answer.extensions().get::<Trailers>().map(|trailers| &trailers.0);
    status(trailers.unwrap_or(answer.headers()))?;
    let mut body = BytesMut::from(answer.body().as_ref());
    take(&mut body)?.ok_or(GrpcError::Malformed)
}

/// Where a call goes.
pub(crate) struct Call<'a> {
    /// The cluster.
    pub(crate) cluster: &'a str,
    /// `:authority`
    pub(crate) authority: &'a str,
    /// `/package.Service/Method`
    pub(crate) path: &'a str,
    /// Headers besides those of gRPC.
    pub(crate) metadata: &'a HeaderMap,
    /// Time and size.
    pub(crate) options: CalloutOptions,
}

impl GrpcTarget {
    /// A call of one of the service's methods, within `timeout`.
    pub(crate) fn call<'a>(&'a self, path: &'a str, timeout: Duration) -> Call<'a> {
        Call {
            cluster: &self.cluster,
            authority: &self.authority,
            path,
            metadata: &self.metadata,
            options: CalloutOptions::within(timeout),
        }
    }
}

/// Reads the status in trailers.
///
/// # Errors
/// It is not OK, or is not there.
pub(crate) fn status(trailers: &HeaderMap) -> Result<(), GrpcError> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status").and_then(|code| code.parse().ok()).unwrap_or(2);
    if code == 0 {
        return Ok(());
    }
    let message = text("grpc-message").unwrap_or_default();
    let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy().into_owned();
    Err(GrpcError::Status { code, message })
}

/// gRPC, HTTP to gRPC Status Code Mapping.
fn code_of_http(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use weft_xds_proto::pb::envoy::config::core::v3::Node;

    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let node = Node { id: "a".to_owned(), ..Node::default() };
        let mut buffer = BytesMut::from(frame(&node).as_ref());
        let rest = buffer.split_off(buffer.len() - 1);
        assert!(take::<Node>(&mut buffer).expect("it is right so far").is_none());
        buffer.unsplit(rest);
        buffer.extend_from_slice(&frame(&Node::default()));
        assert_eq!(take(&mut buffer).expect("it is right"), Some(node));
        assert_eq!(take(&mut buffer).expect("it is right"), Some(Node::default()));
        assert!(buffer.is_empty());
        let mut compressed = BytesMut::from(&[1, 0, 0, 0, 0][..]);
        assert!(take::<Node>(&mut compressed).is_err());
    }

    #[test]
    fn an_error_is_read_from_trailers() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("7"));
        trailers.insert("grpc-message", HeaderValue::from_static("not%20you"));
        let error = status(&trailers).expect_err("it is an error");
        assert_eq!(error.to_string(), "gRPC status 7: not you");
        assert!(status(&HeaderMap::new()).is_err());
    }
}
