//! Requests that are not served.

use http::StatusCode;

/// Why a request is refused before anybody has seen it, in Envoy's terms. The connection ends
/// with the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no HTTP/1 message.
    Malformed,
    /// Its version is none that is spoken, or is missing (RFC 9110, 15.5.22).
    UnknownVersion,
    /// Its target has a fragment, which is the client's own (RFC 9110, 7.1).
    Fragment,
    /// A value or the target has a character that it must not have.
    InvalidCharacters,
    /// `Content-Length` and `Transfer-Encoding` together (RFC 9112, 6.1).
    LengthAndChunks,
    /// A transfer coding other than `chunked` (RFC 9112, 6.1).
    UnknownCoding,
    /// The head is longer than allowed.
    HeadTooLarge,
    /// There are more header fields than allowed.
    TooManyHeaders,
    /// The head did not arrive in time (`request_headers_timeout`).
    Late,
}

impl Refusal {
    /// The reply's status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::Fragment | Self::InvalidCharacters | Self::LengthAndChunks => {
                StatusCode::BAD_REQUEST
            }
            Self::UnknownVersion => StatusCode::UPGRADE_REQUIRED,
            Self::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Self::HeadTooLarge | Self::TooManyHeaders => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Late => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// The reply's body.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Malformed | Self::InvalidCharacters | Self::LengthAndChunks => "Bad Request",
            Self::UnknownVersion => "Upgrade Required",
            Self::Fragment => "",
            Self::UnknownCoding => "Not Implemented",
            Self::HeadTooLarge | Self::TooManyHeaders => "Request Header Fields Too Large",
            Self::Late => "request header timeout",
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`
    #[must_use]
    pub fn details(self) -> &'static str {
        match self {
            Self::Malformed => "http1.codec_error",
            Self::UnknownVersion => "low_version",
            Self::Fragment => "path_normalization_failed",
            Self::InvalidCharacters => "http1.invalid_characters",
            Self::LengthAndChunks => "http1.content_length_and_chunked_not_allowed",
            Self::UnknownCoding => "http1.invalid_transfer_encoding",
            Self::HeadTooLarge => "http1.headers_too_large",
            Self::TooManyHeaders => "http1.too_many_headers",
            Self::Late => "request_header_timeout",
        }
    }
}
