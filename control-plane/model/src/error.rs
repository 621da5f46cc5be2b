//! The error of turning stored JSON into a typed resource.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A stored value that is no valid resource of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct DecodeError {
    /// The field within the resource, such as `upstream.nodes`; `.` for the whole.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl DecodeError {
    pub(crate) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

/// Decodes `value`, naming the field at which decoding failed.
pub(crate) fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, DecodeError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        DecodeError::new(path, error.into_inner().to_string())
    })
}
