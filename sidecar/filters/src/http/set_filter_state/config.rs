//! `set_filter_state.v3.Config`.

use std::sync::Arc;

use weft_filter_api::RouteFilterConfig;
use weft_xds_proto::pb::envoy::config::core::v3::{
    data_source::Specifier, substitution_format_string::Format,
};
use weft_xds_proto::pb::envoy::extensions::filters::common::set_filter_state::v3::{
    FilterStateValue,
    filter_state_value::{Key, Value},
};
use weft_xds_proto::pb::envoy::extensions::filters::http::set_filter_state::v3::Config;
use weft_xds_proto::pb::google::protobuf::Any;

use super::{Object, SetFilterState};
use crate::config::{FieldError, Within, decode, text_format};
use crate::{FilterCx, HttpFilterKind};

/// The kind of object that plain text is.
const TEXT: &str = "envoy.string";

pub(crate) fn compile(config: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    Ok(HttpFilterKind::Filter(Arc::new(filter(config)?)))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    Ok(Arc::new(filter(config)?))
}

fn filter(config: &Any) -> Result<SetFilterState, FieldError> {
    let config: Config = decode(config)?;
    let mut objects = Vec::with_capacity(config.on_request_headers.len());
    for (index, one) in config.on_request_headers.iter().enumerate() {
        objects.push(object(one).within_item("on_request_headers", index)?);
    }
    Ok(SetFilterState { objects, clear_route: config.clear_route_cache })
}

fn object(config: &FilterStateValue) -> Result<Object, FieldError> {
    let Some(Key::ObjectKey(name)) = &config.key else {
        return Err(FieldError::missing("object_key"));
    };
    // Other kinds steer the proxy (clusters, server names); as text they would have no effect.
    if config.factory_key != TEXT {
        let reason = format!("only objects of the kind {TEXT} are supported");
        return Err(FieldError::at("factory_key", reason));
    }
    let Some(Value::FormatString(format)) = &config.value else {
        return Err(FieldError::missing("format_string"));
    };
    #[expect(deprecated, reason = "control planes still send it")]
    let text = match &format.format {
        Some(Format::TextFormat(text)) => text,
        Some(Format::TextFormatSource(source)) => match &source.specifier {
            Some(Specifier::InlineString(text)) => text,
            _ => return Err(FieldError::at("format_string", "only inline_string is supported")),
        },
        _ => return Err(FieldError::at("format_string", "only text is supported")),
    };
    Ok(Object {
        name: name.clone(),
        format: text_format(text).within("format_string")?,
        skip_empty: config.skip_if_empty,
    })
}
