//! Access logs: Envoy's format strings, compiled, and the record that they print.

mod entry;
mod filter;
mod format;
mod grpc;
mod json;
mod operator;
mod output;
mod plain;
mod record;
mod sink;
mod timestamp;

use std::cell::RefCell;
use std::sync::Arc;

pub use entry::{EntryFields, LogValue};
pub use filter::{Comparison, LogFilter};
pub use format::{DEFAULT_FORMAT, FormatError, TextFormat};
pub use json::JsonFormat;
pub use record::LogRecord;
pub use sink::{LogSink, flush_logs, reopen_logs, set_flush_interval};
pub use timestamp::rfc3339;

use entry::Entry;

use crate::Exporter;

/// Longest buffer that a thread keeps for formatting, bytes.
const KEPT_BUFFER: usize = 16 << 10;

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A compiled access log: a format, a filter and where lines or entries go.
#[derive(Debug)]
pub struct AccessLog {
    output: Output,
    filter: Option<LogFilter>,
}

#[derive(Debug)]
enum Output {
    Text(TextFormat, Arc<LogSink>),
    Json(JsonFormat, Arc<LogSink>),
    Entries(Entry, Arc<Exporter>),
}

impl AccessLog {
    /// A log of text lines (`log_format.text_format_source`); `format` brings its own line end.
    ///
    /// # Errors
    /// An operator is unknown or malformed.
    pub fn text(
        format: &str,
        sink: Arc<LogSink>,
        filter: Option<LogFilter>,
    ) -> Result<Self, FormatError> {
        Ok(Self { output: Output::Text(TextFormat::parse(format)?, sink), filter })
    }

    /// A log of JSON lines (`log_format.json_format`).
    ///
    /// # Errors
    /// An operator is unknown or malformed, or the template holds something other than strings,
    /// numbers, booleans and maps of them.
    pub fn json(
        template: &serde_json::Map<String, serde_json::Value>,
        omit_empty: bool,
        sink: Arc<LogSink>,
        filter: Option<LogFilter>,
    ) -> Result<Self, FormatError> {
        Ok(Self { output: Output::Json(JsonFormat::compile(template, omit_empty)?, sink), filter })
    }

    /// A log of Envoy's entries for a collector (`access_loggers.grpc.v3`).
    #[must_use]
    pub fn entries(fields: EntryFields, to: Arc<Exporter>, filter: Option<LogFilter>) -> Self {
        Self { output: Output::Entries(Entry::Envoy(fields), to), filter }
    }

    /// A log of OpenTelemetry's records for a collector (`access_loggers.open_telemetry.v3`).
    #[must_use]
    pub fn open_telemetry(
        body: Option<LogValue>,
        attributes: Vec<(String, LogValue)>,
        to: Arc<Exporter>,
        filter: Option<LogFilter>,
    ) -> Self {
        Self { output: Output::Entries(Entry::OpenTelemetry { body, attributes }, to), filter }
    }

    /// Writes the record's line, unless the filter says no; never waits for a disk or a collector.
    pub fn log(&self, record: &LogRecord<'_>) {
        if self.filter.as_ref().is_some_and(|filter| !filter.admits(record)) {
            return;
        }
        match &self.output {
            Output::Text(format, sink) => line(sink, |line| format.write(record, line)),
            Output::Json(format, sink) => line(sink, |line| format.write(record, line)),
            Output::Entries(entry, to) => to.add(|out| entry.write(record, out)),
        }
    }
}

fn line(sink: &LogSink, write: impl FnOnce(&mut Vec<u8>)) {
    LINE.with_borrow_mut(|line| {
        line.clear();
        write(line);
        sink.append(line);
        if line.capacity() > KEPT_BUFFER {
            *line = Vec::new();
        }
    });
}

#[cfg(test)]
mod tests;
