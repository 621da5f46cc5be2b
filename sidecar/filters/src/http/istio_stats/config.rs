//! `stats.PluginConfig` of an HTTP filter.

use std::sync::Arc;

use weft_xds_proto::pb::google::protobuf::Any;

use super::IstioStats;
use crate::config::FieldError;
use crate::{FilterCx, HttpFilterKind, istio};

pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let stats = istio::config::compile(config, cx)?;
    Ok(HttpFilterKind::Filter(Arc::new(IstioStats(stats))))
}
