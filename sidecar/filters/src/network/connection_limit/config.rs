//! `network.connection_limit.v3.ConnectionLimit`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use weft_xds_proto::pb::envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit as PbFilter;
use weft_xds_proto::pb::google::protobuf::Any;

use super::{ConnectionLimit, Open};
use crate::config::{FieldError, decode, opt_duration};
use crate::{FilterCx, NetworkFilterKind};

pub(crate) fn compile(
    config: &Any,
    cx: &mut FilterCx<'_>,
) -> Result<NetworkFilterKind, FieldError> {
    let config: PbFilter = decode(config)?;
    if config.stat_prefix.is_empty() {
        return Err(FieldError::missing("stat_prefix"));
    }
    let most = config.max_connections.as_ref().map(|most| most.value);
    let most = most.ok_or_else(|| FieldError::missing("max_connections"))?;
    if most == 0 {
        return Err(FieldError::at("max_connections", "has to be 1 or more"));
    }
    let enabled = config.runtime_enabled.as_ref().and_then(|flag| flag.default_value.as_ref());
    let scope = cx.registry.scope("connection_limit", None);
    let active = scope.gauge(&format!("{}.active_connections", config.stat_prefix));
    Ok(NetworkFilterKind::Filter(Arc::new(ConnectionLimit {
        open: Arc::new(Open { count: AtomicU64::new(0), active }),
        most,
        delay: opt_duration(config.delay.as_ref(), "delay")?.unwrap_or_default(),
        enabled: enabled.is_none_or(|flag| flag.value),
        limited: scope.counter(&format!("{}.limited_connections", config.stat_prefix)),
    })))
}
