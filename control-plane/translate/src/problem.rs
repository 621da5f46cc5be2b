//! What of a resource can't be translated.

use weft_control_model::ResourceKey;

/// A part of a resource that has no equivalent in what nodes are sent, or is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The resource.
    pub key: ResourceKey,
    /// The field within it.
    pub field: String,
    /// Why it can't be translated, and the cure where there is one.
    pub reason: String,
    /// Whether the resource is served without that part; otherwise it isn't served at all.
    pub served: bool,
    /// Whether it is only that another resource is missing, which may come.
    pub dangling: bool,
}

/// A field that keeps its resource from being served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub(crate) struct Unsupported {
    pub(crate) field: String,
    pub(crate) reason: String,
    dangling: bool,
}

impl Unsupported {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into(), dangling: false }
    }

    /// A reference to a resource that isn't there.
    pub(crate) fn missing(field: &str, what: impl std::fmt::Display) -> Self {
        let error = Self::new(field, format!("there is no {what}"));
        Self { dangling: true, ..error }
    }

    /// The same within an outer field.
    pub(crate) fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), ..self }
    }

    pub(crate) fn of(self, key: &ResourceKey) -> Problem {
        let Self { field, reason, dangling } = self;
        Problem { key: key.clone(), field, reason, served: false, dangling }
    }
}
