//! Bytes that stand in the configuration or in a file (`core.v3.DataSource`).

use bytes::Bytes;
use weft_filters::config::{FieldError, Within};
use weft_xds_proto::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};

/// The bytes; none where there is no source.
pub(super) fn data(config: Option<&DataSource>) -> Result<Bytes, FieldError> {
    Ok(match config.and_then(|config| config.specifier.as_ref()) {
        None => Bytes::new(),
        Some(Specifier::InlineString(text)) => Bytes::copy_from_slice(text.as_bytes()),
        Some(Specifier::InlineBytes(bytes)) => Bytes::copy_from_slice(bytes),
        Some(Specifier::Filename(path)) => {
            let read =
                std::fs::read(path).map_err(|error| FieldError::new(format!("{path}: {error}")));
            Bytes::from(read.within("filename")?)
        }
        Some(Specifier::EnvironmentVariable(_)) => {
            return Err(FieldError::unsupported("environment_variable"));
        }
    })
}
