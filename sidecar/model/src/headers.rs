//! Header changes of routes, virtual hosts and weighted clusters.

use std::sync::Arc;

use bytes::Bytes;
use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};
use weft_telemetry::{LogRecord, TextFormat};

/// Headers to add and to remove (`request_headers_to_add`, `…_to_remove`, …).
#[derive(Clone, Debug, Default)]
pub struct HeaderMutations {
    /// Removed first, as Envoy does.
    pub remove: Vec<HeaderName>,
    /// Then added or set, in order.
    pub set: Vec<HeaderSet>,
}

impl HeaderMutations {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }
}

/// One header to add (`core.v3.HeaderValueOption`).
#[derive(Clone, Debug)]
pub struct HeaderSet {
    /// The name.
    pub name: HeaderName,
    /// The value.
    pub value: HeaderTemplate,
    /// What happens if the header is there already.
    pub action: AppendAction,
    /// `keep_empty_value`
    pub keep_empty: bool,
}

impl HeaderSet {
    /// The value to set; `None`: it is empty, and empty ones are not kept.
    #[must_use]
    pub fn value(&self, record: &LogRecord<'_>) -> Option<HeaderValue> {
        let value = self.value.value(record)?;
        (self.keep_empty || !value.is_empty()).then_some(value)
    }
}

/// `HeaderValueOption.append_action`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// Adds a value; the default.
    #[default]
    AppendIfExistsOrAdd,
    /// Only if the header is absent.
    AddIfAbsent,
    /// Replaces the values or adds.
    OverwriteIfExistsOrAdd,
    /// Only if the header is there.
    OverwriteIfExists,
}

/// A header value with Envoy's substitution operators.
#[derive(Clone, Debug)]
pub enum HeaderTemplate {
    /// No operator: the value itself.
    Fixed(HeaderValue),
    /// Text and operators.
    Format(Arc<TextFormat>),
}

impl HeaderTemplate {
    /// The value; `None`: what was put in can't stand in a header.
    #[must_use]
    pub fn value(&self, record: &LogRecord<'_>) -> Option<HeaderValue> {
        match self {
            Self::Fixed(value) => Some(value.clone()),
            Self::Format(format) => {
                let mut text = Vec::new();
                format.write_value(record, &mut text);
                HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
            }
        }
    }

    /// Whether the value depends on the request's head.
    #[must_use]
    pub fn reads_request(&self) -> bool {
        matches!(self, Self::Format(format) if format.reads_request())
    }
}

impl AppendAction {
    /// Puts a value into headers, or not, as the action says.
    pub fn apply(self, headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
        match (self, headers.entry(name)) {
            (Self::AppendIfExistsOrAdd, Entry::Occupied(mut entry)) => {
                entry.append(value);
            }
            (
                Self::OverwriteIfExistsOrAdd | Self::OverwriteIfExists,
                Entry::Occupied(mut entry),
            ) => {
                entry.insert(value);
            }
            (Self::AddIfAbsent, Entry::Occupied(_))
            | (Self::OverwriteIfExists, Entry::Vacant(_)) => {}
            (_, Entry::Vacant(entry)) => {
                entry.insert(value);
            }
        }
    }
}
