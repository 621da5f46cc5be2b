//! Where an operator's value is written, and how.

use std::fmt::Display;
use std::io::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

/// Where a value is written.
pub(super) struct Output<'a> {
    out: &'a mut Vec<u8>,
    form: Form,
    /// Longer values are cut, bytes.
    pub(super) max: Option<usize>,
}

/// What the value becomes a part of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A part of a line; `-` for what is not there.
    Line,
    /// A part of a header's value; nothing for what is not there.
    Header,
    /// A JSON value.
    Json,
}

impl<'a> Output<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, form: Form) -> Self {
        Self { out, form, max: None }
    }

    pub(super) fn bytes(&mut self, value: Option<&[u8]>) {
        let value = value.map(|value| &value[..value.len().min(self.max.unwrap_or(usize::MAX))]);
        match (value, self.form) {
            (Some(value), Form::Json) => {
                write_json_string(&String::from_utf8_lossy(value), self.out);
            }
            (Some(value), Form::Line | Form::Header) => self.out.extend_from_slice(value),
            (None, Form::Line) => self.out.push(b'-'),
            (None, Form::Header) => {}
            (None, Form::Json) => self.out.extend_from_slice(b"null"),
        }
    }

    pub(super) fn text(&mut self, value: Option<&str>) {
        self.bytes(value.map(str::as_bytes));
    }

    /// As Envoy does in details and reasons, spaces become underscores in text.
    pub(super) fn words(&mut self, value: Option<&str>) {
        let value = value.filter(|value| !value.is_empty());
        if self.form == Form::Json {
            self.text(value);
        } else {
            self.text(value.map(|value| value.replace(' ', "_")).as_deref());
        }
    }

    pub(super) fn number(&mut self, value: Option<u64>) {
        match value {
            // Writing to a vector can't fail.
            Some(value) => drop(write!(self.out, "{value}")),
            None => self.bytes(None),
        }
    }

    pub(super) fn display(&mut self, value: &dyn Display) {
        if self.form == Form::Json || self.max.is_some() {
            self.bytes(Some(value.to_string().as_bytes()));
        } else {
            drop(write!(self.out, "{value}"));
        }
    }

    pub(super) fn address(&mut self, value: Option<SocketAddr>) {
        match value {
            Some(value) => self.display(&value),
            None => self.bytes(None),
        }
    }

    pub(super) fn list(&mut self, values: &[String]) {
        let joined = (!values.is_empty()).then(|| values.join(","));
        self.text(joined.as_deref());
    }

    /// Strings as they are, anything else as JSON.
    pub(super) fn value(&mut self, value: Option<&Value>) {
        match value {
            None => self.bytes(None),
            Some(Value::String(text)) => self.text(Some(text)),
            Some(other) if self.form == Form::Json => {
                drop(serde_json::to_writer(&mut *self.out, other));
            }
            Some(other) => self.text(Some(&other.to_string())),
        }
    }
}

/// Writes a JSON string with its quotes.
pub(super) fn write_json_string(text: &str, out: &mut Vec<u8>) {
    // Writing a string to a vector can't fail.
    drop(serde_json::to_writer(out, text));
}
