//! `%GRPC_STATUS%`

use http::HeaderMap;

use super::LogRecord;

/// How the status is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrpcForm {
    /// `CAMEL_STRING`
    Camel,
    /// `SNAKE_STRING`
    Snake,
    /// `NUMBER`
    Number,
}

/// The names of the status codes (gRPC, Status codes), in both forms.
const NAMES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

impl GrpcForm {
    /// The form that an operator's argument names.
    pub(super) fn named(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "CAMEL_STRING") => Some(Self::Camel),
            Some("SNAKE_STRING") => Some(Self::Snake),
            Some("NUMBER") => Some(Self::Number),
            Some(_) => None,
        }
    }

    /// The name of a code; a code without one is a number.
    pub(super) fn text(self, status: u64) -> Option<&'static str> {
        let (camel, snake) = NAMES.get(usize::try_from(status).ok()?)?;
        match self {
            Self::Camel => Some(camel),
            Self::Snake => Some(snake),
            Self::Number => None,
        }
    }
}

/// The status of a gRPC call: of the trailers, else of the head, else what the HTTP status stands for.
pub(super) fn status(record: &LogRecord<'_>) -> Option<u64> {
    let kind = record.request_headers?.get(http::header::CONTENT_TYPE)?.as_bytes();
    let rest = kind.strip_prefix(b"application/grpc")?;
    if !matches!(rest.first(), None | Some(b'+' | b';')) {
        return None;
    }
    let said = |headers: Option<&HeaderMap>| {
        headers?.get("grpc-status")?.to_str().ok()?.parse::<u64>().ok()
    };
    let of_http = || match record.status {
        0 => None,
        400 => Some(13),
        401 => Some(16),
        403 => Some(7),
        404 => Some(12),
        429 | 502 | 503 | 504 => Some(14),
        _ => Some(2),
    };
    said(record.response_trailers).or_else(|| said(record.response_headers)).or_else(of_http)
}
