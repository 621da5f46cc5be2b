//! What replies that the proxy makes itself look like.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use weft_telemetry::{JsonFormat, LogFilter, LogRecord, TextFormat};

use crate::HeaderMutations;

/// `http_connection_manager.v3.LocalReplyConfig`, compiled.
#[derive(Debug)]
pub struct LocalReplies {
    /// `mappers`: the first that fits changes the reply.
    pub mappers: Vec<ReplyMapper>,
    /// `body_format`, unless the mapper has its own.
    pub format: Option<ReplyFormat>,
}

/// `ResponseMapper`
#[derive(Debug)]
pub struct ReplyMapper {
    /// `filter`; `None`: it fits every reply.
    pub filter: Option<LogFilter>,
    /// `status_code`
    pub status: Option<StatusCode>,
    /// `body`
    pub body: Option<Bytes>,
    /// `body_format_override`
    pub format: Option<ReplyFormat>,
    /// `headers_to_add`
    pub headers: HeaderMutations,
}

/// `core.v3.SubstitutionFormatString`, compiled, for the body of a reply.
#[derive(Debug)]
pub struct ReplyFormat {
    /// `text_format_source` or `json_format`
    pub template: ReplyTemplate,
    /// `content_type`, by default that of the kind of the template.
    pub content_type: HeaderValue,
}

/// The template of a reply's body.
#[derive(Debug)]
pub enum ReplyTemplate {
    /// Text.
    Text {
        /// The text with its operators.
        format: TextFormat,
        /// `omit_empty_values`: nothing stands for what is not there, else `-`.
        omit_empty: bool,
    },
    /// JSON.
    Json(JsonFormat),
}

impl ReplyTemplate {
    /// The body.
    #[must_use]
    pub fn body(&self, record: &LogRecord<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Text { format, omit_empty: true } => format.write_value(record, &mut out),
            Self::Text { format, omit_empty: false } => format.write(record, &mut out),
            Self::Json(format) => format.write(record, &mut out),
        }
        out
    }
}
