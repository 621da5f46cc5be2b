//! `weft.plugins.v1.Chain` and `weft.plugins.v1.Consumers`, each in a `TypedStruct`: the plugins of
//! a route and the consumers that they know. As filters they are empty; what they run stands on
//! routes and virtual hosts.

use std::sync::Arc;

use weft_filter_api::RouteFilterConfig;
use weft_plugins::{Chain, ChainError, ChainFilter, Consumers, ConsumersFilter};
use weft_xds_proto::TypedStruct;
use weft_xds_proto::pb::google::protobuf::Any;

use crate::config::FieldError;
use crate::{FilterCx, HttpFilterKind};

/// `uses_io`: for the chains that look into bodies.
pub(crate) fn chain(config: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let uses_io = TypedStruct::open(config)?.value["uses_io"] == true;
    Ok(HttpFilterKind::Filter(Arc::new(ChainFilter { uses_io })))
}

pub(crate) fn consumers(_: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    Ok(HttpFilterKind::Filter(Arc::new(ConsumersFilter)))
}

pub(crate) fn chain_per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    Ok(Arc::new(Chain::compile(&TypedStruct::open(config)?.value).map_err(refused)?))
}

pub(crate) fn consumers_per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    Ok(Arc::new(Consumers::compile(&TypedStruct::open(config)?.value).map_err(refused)?))
}

fn refused(error: ChainError) -> FieldError {
    let ChainError { plugin, reason } = error;
    FieldError::at(format!("value.plugins.{plugin}"), reason)
}
