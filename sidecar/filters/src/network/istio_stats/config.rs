//! `stats.PluginConfig` of a network filter.

use std::sync::Arc;

use weft_xds_proto::pb::google::protobuf::Any;

use super::IstioStats;
use crate::config::FieldError;
use crate::{FilterCx, NetworkFilterKind, istio};

pub(crate) fn compile(
    config: &Any,
    cx: &mut FilterCx<'_>,
) -> Result<NetworkFilterKind, FieldError> {
    let stats = istio::config::compile(config, cx)?;
    Ok(NetworkFilterKind::Filter(Arc::new(IstioStats(stats))))
}
