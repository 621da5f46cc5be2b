//! Entries for collectors: Envoy's (`envoy.data.accesslog.v3`), and OpenTelemetry's.

mod envoy;
mod otlp;
mod structs;

use http::HeaderName;

use super::LogRecord;
use crate::CustomTag;

pub use otlp::LogValue;

/// What an entry of Envoy's says besides what all of them say.
#[derive(Debug, Default)]
pub struct EntryFields {
    /// It is one of HTTP; else of TCP.
    pub http: bool,
    /// `additional_request_headers_to_log`
    pub request_headers: Vec<HeaderName>,
    /// `additional_response_headers_to_log`
    pub response_headers: Vec<HeaderName>,
    /// `additional_response_trailers_to_log`
    pub response_trailers: Vec<HeaderName>,
    /// `filter_state_objects_to_log`
    pub states: Vec<String>,
    /// `custom_tags`
    pub tags: Vec<CustomTag>,
}

/// How a record is encoded for its collector.
#[derive(Debug)]
pub(super) enum Entry {
    Envoy(EntryFields),
    OpenTelemetry { body: Option<LogValue>, attributes: Vec<(String, LogValue)> },
}

impl Entry {
    /// Appends an entry as the field that holds it.
    pub(super) fn write(&self, record: &LogRecord<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Envoy(fields) => envoy::write(fields, record, out),
            Self::OpenTelemetry { body, attributes } => {
                otlp::write(body.as_ref(), attributes, record, out);
            }
        }
    }
}
