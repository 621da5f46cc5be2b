//! Records of OpenTelemetry's logs (`opentelemetry.proto.logs.v1.LogRecord`).

use crate::TextFormat;
use crate::access_log::LogRecord;
use crate::export::wire;
use crate::trace::nanos;

/// `AnyValue`, compiled: text is a format. Other values may not stand here, as in Envoy.
#[derive(Debug)]
pub enum LogValue {
    /// `string_value`
    Text(TextFormat),
    /// `array_value`
    List(Vec<Self>),
    /// `kvlist_value`
    Map(Vec<(String, Self)>),
}

impl LogValue {
    fn write(&self, record: &LogRecord<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Text(format) => {
                let mut text = Vec::new();
                format.write(record, &mut text);
                wire::bytes(out, 1, String::from_utf8_lossy(&text).as_bytes());
            }
            Self::List(values) => wire::message(out, 5, |out| {
                for value in values {
                    wire::message(out, 1, |out| value.write(record, out));
                }
            }),
            Self::Map(values) => wire::message(out, 6, |out| {
                for (key, value) in values {
                    pair(out, 1, key, value, record);
                }
            }),
        }
    }
}

fn pair(out: &mut Vec<u8>, field: u8, key: &str, value: &LogValue, record: &LogRecord<'_>) {
    wire::message(out, field, |out| {
        wire::text(out, 1, key);
        wire::message(out, 2, |out| value.write(record, out));
    });
}

/// Appends a record as the field `log_records` of `ScopeLogs`.
pub(super) fn write(
    body: Option<&LogValue>,
    attributes: &[(String, LogValue)],
    record: &LogRecord<'_>,
    out: &mut Vec<u8>,
) {
    wire::message(out, 2, |out| {
        wire::fixed64(out, 1, nanos(record.started_at));
        if let Some(body) = body {
            wire::message(out, 5, |out| body.write(record, out));
        }
        for (key, value) in attributes {
            pair(out, 6, key, value, record);
        }
        if let Some((trace, span)) = record.trace {
            wire::bytes(out, 9, &trace.to_be_bytes());
            wire::bytes(out, 10, &span.to_be_bytes());
        }
    });
}
