//! `http.buffer.v3.Buffer` and `BufferPerRoute`.

use std::sync::Arc;

use weft_filter_api::RouteFilterConfig;
use weft_xds_proto::pb::envoy::extensions::filters::http::buffer::v3::{
    Buffer as PbFilter, BufferPerRoute, buffer_per_route::Override,
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::{Buffer, PerRoute};
use crate::config::{FieldError, Within, decode};
use crate::{FilterCx, HttpFilterKind};

pub(crate) fn compile(config: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    Ok(HttpFilterKind::Filter(Arc::new(Buffer(longest(&decode(config)?)?))))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let config: BufferPerRoute = decode(config)?;
    match &config.r#override {
        Some(Override::Disabled(true)) => Ok(Arc::new(PerRoute(None))),
        Some(Override::Buffer(own)) => Ok(Arc::new(PerRoute(Some(longest(own).within("buffer")?)))),
        _ => Err(FieldError::new("give disabled: true or buffer")),
    }
}

fn longest(config: &PbFilter) -> Result<usize, FieldError> {
    match config.max_request_bytes {
        Some(longest) if longest.value > 0 => Ok(longest.value as usize),
        Some(_) => Err(FieldError::at("max_request_bytes", "has to be more than zero")),
        None => Err(FieldError::missing("max_request_bytes")),
    }
}
