//! Envoy's text formats: text with `%OPERATORS%`.

use thiserror::Error;

use super::LogRecord;
use super::operator::Operator;
use super::output::{Form, Output};

/// Envoy's default format, for HTTP and TCP.
pub const DEFAULT_FORMAT: &str = "[%START_TIME%] \
\"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// Why a format is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FormatError {
    /// A `%` without its partner.
    #[error("at byte {at}: `%` without a closing `%`; write `%%` for a percent sign")]
    Unclosed {
        /// Where it stands.
        at: usize,
    },
    /// An operator that Weft does not know.
    #[error("at byte {at}: unknown operator %{operator}%")]
    Unknown {
        /// Where it stands.
        at: usize,
        /// The operator.
        operator: String,
    },
    /// An operator's argument is missing or malformed.
    #[error("at byte {at}: %{operator}%: {why}")]
    Argument {
        /// Where it stands.
        at: usize,
        /// The operator.
        operator: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A JSON template holds something that can't be printed.
    #[error("json_format.{key}: expected a string, number, boolean or map")]
    Template {
        /// The key.
        key: String,
    },
}

/// Text with Envoy's substitution operators, compiled: a line of an access log, or the value of a
/// header.
#[derive(Debug)]
pub struct TextFormat(Vec<Segment>);

#[derive(Debug)]
enum Segment {
    Text(String),
    Operator(Operator),
}

impl TextFormat {
    /// Compiles a format; `%%` is a percent sign.
    ///
    /// # Errors
    /// An operator is unknown, malformed or not closed.
    pub fn parse(format: &str) -> Result<Self, FormatError> {
        let mut segments = Vec::new();
        let mut text = String::new();
        let mut rest = format;
        while let Some(percent) = rest.find('%') {
            text.push_str(&rest[..percent]);
            let at = format.len() - rest.len() + percent;
            rest = &rest[percent + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                text.push('%');
                rest = after;
                continue;
            }
            let end = closing_percent(rest).ok_or(FormatError::Unclosed { at })?;
            let operator = Operator::parse(&rest[..end], at)?;
            if !text.is_empty() {
                segments.push(Segment::Text(std::mem::take(&mut text)));
            }
            segments.push(Segment::Operator(operator));
            rest = &rest[end + 1..];
        }
        text.push_str(rest);
        if !text.is_empty() {
            segments.push(Segment::Text(text));
        }
        Ok(Self(segments))
    }

    /// Writes a line of a log: `-` stands for values that are not there.
    pub fn write(&self, record: &LogRecord<'_>, out: &mut Vec<u8>) {
        self.write_with(record, out, Form::Line);
    }

    /// Writes a header's value: values that are not there are left out.
    pub fn write_value(&self, record: &LogRecord<'_>, out: &mut Vec<u8>) {
        self.write_with(record, out, Form::Header);
    }

    fn write_with(&self, record: &LogRecord<'_>, out: &mut Vec<u8>, form: Form) {
        for segment in &self.0 {
            match segment {
                Segment::Text(text) => out.extend_from_slice(text.as_bytes()),
                Segment::Operator(operator) => operator.write(record, &mut Output::new(out, form)),
            }
        }
    }

    /// The text, if there is no operator in it.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Segment::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether an operator takes its value from the request's head.
    #[must_use]
    pub fn reads_request(&self) -> bool {
        let reads =
            |segment: &Segment| matches!(segment, Segment::Operator(one) if one.reads_request());
        self.0.iter().any(reads)
    }

    /// The operator, if the format is nothing else.
    pub(super) fn sole_operator(&self) -> Option<&Operator> {
        match self.0.as_slice() {
            [Segment::Operator(operator)] => Some(operator),
            _ => None,
        }
    }
}

/// The `%` that ends an operator: one outside its parentheses, since a time format has its own.
fn closing_percent(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '%' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}
