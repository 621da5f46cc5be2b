//! YAML documents as messages, by way of JSON.

use prost::{Message, Name};
use serde_json::Value as Json;

use crate::json::{JsonError, from_json};

/// Why a YAML document is not the message it should be.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// It is no YAML; the text names the line and the column and shows the place.
    #[error("{0}")]
    Syntax(String),
    /// It is YAML of another shape.
    #[error(transparent)]
    Mapping(#[from] JsonError),
}

/// Maps one YAML document (JSON is YAML, too) to a message, like [`from_json`].
///
/// # Errors
/// [`YamlError::Syntax`] with line and column, or [`YamlError::Mapping`] with the field's path.
pub fn from_yaml<M: Message + Name + Default>(yaml: &str) -> Result<M, YamlError> {
    Ok(from_json(yaml_to_json(yaml)?)?)
}

/// Reads one YAML document as JSON. Anchors, aliases and merge keys are resolved, `yes`, `no`,
/// `on` and `off` stay texts (YAML 1.2), repeated keys are errors.
///
/// # Errors
/// [`YamlError::Syntax`] with line and column.
pub fn yaml_to_json(yaml: &str) -> Result<Json, YamlError> {
    let budget = serde_saphyr::budget! {
        // The limits guard against documents that grow when aliases are followed; a static
        // configuration with ten thousand clusters is an honest million of nodes.
        max_events: 100_000_000,
        max_nodes: 50_000_000,
        max_total_scalar_bytes: 1 << 30,
        max_depth: 256,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        strict_booleans: true,
    };
    serde_saphyr::from_str_with_options(yaml, options)
        .map_err(|error| YamlError::Syntax(error.to_string()))
}

#[cfg(test)]
mod tests;
