//! `set_metadata.v3.Config`.

use std::sync::Arc;

use weft_xds_proto::pb::envoy::extensions::filters::http::set_metadata::v3::{Config, Metadata};
use weft_xds_proto::pb::google::protobuf::Any;
use weft_xds_proto::struct_to_json;

use super::{Addition, SetMetadata};
use crate::config::{FieldError, Within, decode};
use crate::{FilterCx, HttpFilterKind};

#[expect(deprecated, reason = "control planes still send the older fields")]
pub(crate) fn compile(config: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let config: Config = decode(config)?;
    let mut additions = Vec::with_capacity(config.metadata.len() + 1);
    if let Some(value) = &config.value {
        if config.metadata_namespace.is_empty() {
            return Err(FieldError::missing("metadata_namespace"));
        }
        additions.push(Addition {
            namespace: config.metadata_namespace.clone(),
            overwrite: true,
            value: struct_to_json(value),
        });
    }
    for (index, one) in config.metadata.iter().enumerate() {
        additions.push(addition(one).within_item("metadata", index)?);
    }
    Ok(HttpFilterKind::Filter(Arc::new(SetMetadata(additions))))
}

fn addition(config: &Metadata) -> Result<Addition, FieldError> {
    if config.metadata_namespace.is_empty() {
        return Err(FieldError::missing("metadata_namespace"));
    }
    if config.typed_value.is_some() {
        return Err(FieldError::unsupported("typed_value"));
    }
    let value = config.value.as_ref().ok_or_else(|| FieldError::missing("value"))?;
    Ok(Addition {
        namespace: config.metadata_namespace.clone(),
        overwrite: config.allow_overwrite,
        value: struct_to_json(value),
    })
}
