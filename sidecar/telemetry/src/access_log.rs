//! Access logs: Envoy's format strings, compiled, and the record that they print.

mod filter;
mod format;
mod json;
mod operator;
mod output;
mod plain;
mod record;
mod sink;
mod timestamp;

use std::cell::RefCell;
use std::sync::Arc;

pub use filter::{Comparison, LogFilter};
pub use format::{DEFAULT_FORMAT, FormatError, TextFormat};
pub use record::LogRecord;
pub use sink::{LogSink, flush_logs, reopen_logs, set_flush_interval};
pub use timestamp::rfc3339;

use json::JsonFormat;

/// Longest buffer that a thread keeps for formatting, bytes.
const KEPT_BUFFER: usize = 16 << 10;

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A compiled access log: a format, a filter and where lines go.
#[derive(Debug)]
pub struct AccessLog {
    format: Format,
    sink: Arc<LogSink>,
    filter: Option<LogFilter>,
}

#[derive(Debug)]
enum Format {
    Text(TextFormat),
    Json(JsonFormat),
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
        Ok(Self { format: Format::Text(TextFormat::parse(format)?), sink, filter })
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
        Ok(Self { format: Format::Json(JsonFormat::compile(template, omit_empty)?), sink, filter })
    }

    /// Writes the record's line, unless the filter says no; never waits for the disk.
    pub fn log(&self, record: &LogRecord<'_>) {
        if self.filter.as_ref().is_some_and(|filter| !filter.admits(record)) {
            return;
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            match &self.format {
                Format::Text(format) => format.write(record, line),
                Format::Json(format) => format.write(record, line),
            }
            self.sink.append(line);
            if line.capacity() > KEPT_BUFFER {
                *line = Vec::new();
            }
        });
    }
}

#[cfg(test)]
mod tests;
