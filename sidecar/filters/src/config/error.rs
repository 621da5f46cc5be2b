//! What is wrong with a message, and where.

use std::fmt;

use weft_xds_proto::AnyError;

/// A field that can't be accepted: its path below the message at hand, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, e.g. `virtual_hosts[2].routes[0].match.safe_regex`; empty for the message as a whole.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl FieldError {
    /// An error of the message as a whole.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { field: String::new(), reason: reason.into() }
    }

    /// An error of one field.
    #[must_use]
    pub fn at(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    /// A field that stock Envoy honours and Weft does not yet; ignoring it would change what
    /// happens to traffic.
    #[must_use]
    pub fn unsupported(field: &str) -> Self {
        Self::at(field, "is not supported yet; leave it out")
    }

    /// A field without which the message means nothing.
    #[must_use]
    pub fn missing(field: &str) -> Self {
        Self::at(field, "is required")
    }

    /// The same error seen from the message that holds this one in `field`.
    #[must_use]
    pub fn within(mut self, field: &str) -> Self {
        let dot = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        self.field = format!("{field}{dot}{}", self.field);
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.field.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.field, self.reason)
    }
}

impl std::error::Error for FieldError {}

impl From<AnyError> for FieldError {
    fn from(error: AnyError) -> Self {
        Self::new(error.to_string())
    }
}

/// Adds to an error's path the field that was being read.
pub trait Within<T> {
    /// Adds `field` in front.
    ///
    /// # Errors
    /// The error that was there, with a longer path.
    fn within(self, field: &str) -> Result<T, FieldError>;

    /// Adds `field[index]` in front.
    ///
    /// # Errors
    /// The error that was there, with a longer path.
    fn within_item(self, field: &str, index: usize) -> Result<T, FieldError>;

    /// Adds `field[key]` in front, for maps.
    ///
    /// # Errors
    /// The error that was there, with a longer path.
    fn within_key(self, field: &str, key: &str) -> Result<T, FieldError>;
}

impl<T, E: Into<FieldError>> Within<T> for Result<T, E> {
    fn within(self, field: &str) -> Result<T, FieldError> {
        self.map_err(|error| error.into().within(field))
    }

    fn within_item(self, field: &str, index: usize) -> Result<T, FieldError> {
        self.map_err(|error| error.into().within(&format!("{field}[{index}]")))
    }

    fn within_key(self, field: &str, key: &str) -> Result<T, FieldError> {
        self.map_err(|error| error.into().within(&format!("{field}[{key}]")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_grows_from_the_inside_out() {
        let error = Err::<(), _>(FieldError::at("safe_regex", "no"))
            .within("match")
            .within_item("routes", 3)
            .within_key("per", "a.b");
        let error = error.expect_err("it is an error");
        assert_eq!(error.to_string(), "per[a.b].routes[3].match.safe_regex: no");
        assert_eq!(FieldError::new("no").within("x").to_string(), "x: no");
    }
}
